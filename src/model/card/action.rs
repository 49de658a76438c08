//! The nine things that a press in a card can do. Nothing here does one: readers hand them to the app.

use crate::model::document::token::Typed;
use crate::model::document::url::Target;
use crate::model::document::{Family, Kind, Member, Pattern, Rule, may, must, pattern};

/// The longest value of a header that a reader sends, in characters: what common servers take in one line.
const HEADER_MAX: usize = 8_190;

/// All actions.
pub(super) static ACTIONS: Family = Family {
    noun: "action",
    one: "an action",
    common: &[],
    kinds: &[
        &kind(
            "openUrl",
            "Opens a URL.",
            &[
                must("url", Rule::Url(Target::Link, None)),
                may("openIn", Rule::Word(&["browser", "webview"]), "Default browser."),
            ],
        ),
        &kind(
            "chatWithUser",
            "Opens the conversation with a user.",
            &[must("uid", Rule::Text)],
        ),
        &kind(
            "chatWithGroup",
            "Opens the conversation of a group.",
            &[must("guid", Rule::Text)],
        ),
        &kind(
            "sendMessage",
            "Sends a message; without a receiver, into the current conversation.",
            &[
                must("text", Rule::Text),
                may("receiverUid", Rule::Text, ""),
                may("receiverGuid", Rule::Text, ""),
            ],
        ),
        &kind("copyToClipboard", "Copies a text.", &[must("value", Rule::Text)]),
        &kind(
            "downloadFile",
            "Downloads a file.",
            &[
                must("url", Rule::Url(Target::Web, None)),
                may("filename", Rule::Text, ""),
            ],
        ),
        &Kind {
            any_of: &["uid", "guid"],
            ..kind(
                "initiateCall",
                "Calls a user or a group.",
                &[
                    must("callType", Rule::Word(&["audio", "video"])),
                    may("uid", Rule::Text, ""),
                    may("guid", Rule::Text, ""),
                ],
            )
        },
        &kind(
            "apiCall",
            "Calls an address of the app.",
            &[
                must("url", Rule::Url(Target::Web, None)),
                may("method", Rule::Word(&["GET", "POST", "PUT", "DELETE"]), "Default POST."),
                may("headers", Rule::Map(&HEADER_NAME, &Rule::Line(0, HEADER_MAX)), ""),
                may("body", Rule::Free, ""),
            ],
        ),
        &kind(
            "customCallback",
            "Hands the press to the app.",
            &[
                may("callbackId", Rule::Text, "What the app tells its callbacks apart by."),
                may("payload", Rule::Free, "What the app gets with it."),
            ],
        ),
    ],
    typed: Some(Typed::Action),
};

static HEADER_NAME: Pattern = pattern!(
    "^[0-9A-Za-z!#$%&'*+.^_`|~-]{1,256}$",
    "must be the name of an HTTP header: letters, digits and !#$%&'*+.^_`|~-"
);

const fn kind(word: &'static str, about: &'static str, members: &'static [Member]) -> Kind {
    Kind {
        word,
        about,
        members,
        any_of: &[],
    }
}
