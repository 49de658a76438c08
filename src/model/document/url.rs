//! Which URLs a document may hold: by what is done with them, not by where they lead. Nothing here resolves or opens one.
//!
//! The rule allows forms rather than forbidding texts, so that tricks of spelling meet no rule at all: a scheme in other
//! letters is compared without case, `java\nscript:`, ` javascript:`, `javascript&colon;` and `javascript%3A` have no
//! scheme, and neither has `//host` or a path. Beside http and https a link may open mail, a call or a text message, and
//! any app by `scheme://`, because apps have schemes of their own. Of those the ones are refused that a browser or an
//! operating system gives a meaning: code, local files, installers, pages of the browser itself.

use serde_json::{Value, json};

use super::token::{self, token};
use super::{Pattern, pattern};

/// The longest URL, in characters: the shortest limit among common browsers and servers is a little over 2,000.
pub const CHARACTERS_MAX: usize = 2_048;

/// What is done with a URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// It is opened: http, https, mail, call, text message, or an app.
    Link,
    /// It is loaded: http or https.
    Web,
}

/// What a literal character of a URL is not: blanks, controls, what RFC 3986 leaves out, and what cannot be seen or turns
/// the direction of writing. Letters of all languages may stand in it, as browsers take them.
macro_rules! no_url {
    () => {
        r##"\x00-\x20"<>\\^`{|}\x7f-\xa0\u00ad\u1680\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff"##
    };
}

/// An http or https URL with something for a host, and tokens anywhere behind the slashes.
macro_rules! web {
    () => {
        concat!(
            "[hH][tT][tT][pP][sS]?://(?:",
            token!(),
            "|[^/?#",
            no_url!(),
            "])(?:",
            token!(),
            "|[^",
            no_url!(),
            "])*"
        )
    };
}

static WEB: Pattern = pattern!(
    concat!("^(?:", token!(), "|", web!(), ")$"),
    "must be an http or https URL of at most 2048 characters, or one variable as a whole"
);

static LINK: Pattern = pattern!(
    concat!(
        "^(?:",
        token!(),
        "|(?:[mM][aA][iI][lL][tT][oO]|[tT][eE][lL]|[sS][mM][sS]):(?:",
        token!(),
        "|[^",
        no_url!(),
        "])+|[a-zA-Z][a-zA-Z0-9+.-]{0,63}://(?:",
        token!(),
        "|[^",
        no_url!(),
        "])*)$"
    ),
    "must be a URL of at most 2048 characters with the scheme http, https, mailto, tel, sms or an app's own as in \
     app://path, or one variable as a whole"
);

/// Schemes that no link has, in lower case.
const REFUSED: [&str; 24] = [
    "javascript",
    "vbscript",
    "livescript",
    "jscript",
    "data",
    "blob",
    "file",
    "filesystem",
    "about",
    "view-source",
    "jar",
    "chrome",
    "chrome-extension",
    "moz-extension",
    "resource",
    "res",
    "mhtml",
    "content",
    "intent",
    "shell",
    "search-ms",
    "smb",
    "itms-services",
    "ws",
];

/// What all schemes of Windows' own handlers begin with.
const REFUSED_PREFIX: &str = "ms-";

impl Target {
    /// The rule as a predicate.
    #[must_use]
    pub fn says(self) -> &'static str {
        self.pattern().says
    }

    fn pattern(self) -> &'static Pattern {
        match self {
            Self::Link => &LINK,
            Self::Web => &WEB,
        }
    }

    /// Checks a URL as a document spells it, tokens included.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn check(self, url: &str) -> Result<(), String> {
        if url.chars().count() <= CHARACTERS_MAX && self.pattern().matches(url) && !self.refuses(url) {
            return Ok(());
        }
        Err(self.why(url))
    }

    /// Checks a URL with the values filled in. What a value brings may hold blanks, which readers encode; it may not
    /// hold what cannot be seen. A URL that is still one token as a whole had no value and leads nowhere.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn check_filled(self, url: &str) -> Result<(), String> {
        let bounded = url.chars().count() <= CHARACTERS_MAX && !url.ends_with(' ') && !UNSEEN.matches(url);
        if token::is_whole(url) || (bounded && self.takes(url) && !self.refuses(url)) {
            return Ok(());
        }
        Err(self.why(url))
    }

    /// Whether scheme and beginning fit.
    fn takes(self, url: &str) -> bool {
        let Some((scheme, rest)) = split(url) else { return false };
        let web = is_web(scheme);
        let scheme = scheme.to_ascii_lowercase();
        match self {
            Self::Web => web && rest.starts_with("//"),
            Self::Link if ["mailto", "tel", "sms"].contains(&scheme.as_str()) => !rest.is_empty(),
            Self::Link => rest.starts_with("//"),
        }
    }

    fn refuses(self, url: &str) -> bool {
        let Some((scheme, rest)) = split(url) else { return false };
        if is_web(scheme) {
            let host = rest.strip_prefix("//").and_then(|rest| rest.chars().next());
            return host.is_none_or(|first| matches!(first, '/' | '?' | '#' | '\\' | ' '));
        }
        let scheme = scheme.to_ascii_lowercase();
        REFUSED.contains(&scheme.as_str()) || scheme.starts_with(REFUSED_PREFIX)
    }

    fn why(self, url: &str) -> String {
        match split(url) {
            None if url.starts_with("{{") && !token::is_whole(url) => {
                "must begin with its scheme in plain text, or be one variable as a whole".to_owned()
            }
            Some((scheme, _)) if self == Self::Link && !is_web(scheme) && self.refuses(url) => {
                format!("must not have the scheme {}", scheme.to_ascii_lowercase())
            }
            Some(_) | None => self.says().to_owned(),
        }
    }

    /// The same rule as a JSON Schema.
    #[must_use]
    pub fn schema(self) -> Value {
        let mut schema = json!({"type": "string", "maxLength": CHARACTERS_MAX, "pattern": self.pattern().source});
        if self == Self::Link {
            let schemes: Vec<_> = REFUSED.iter().map(|word| any_case(word)).collect();
            let prefix = any_case(REFUSED_PREFIX);
            let refused = format!(
                "^(?:(?:{}|{prefix}[a-zA-Z0-9+.-]*):|[hH][tT][tT][pP][sS]?://(?:$|[/?#]))",
                schemes.join("|")
            );
            schema["not"] = json!({"pattern": refused});
        }
        schema
    }
}

static UNSEEN: Pattern = pattern!(
    r"[\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]",
    "must hold no character that cannot be seen"
);

/// Scheme and the rest, when there is a scheme.
fn split(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    let form = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-');
    (scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.chars().all(form)).then_some((scheme, rest))
}

fn is_web(scheme: &str) -> bool {
    ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web))
}

/// An expression for a word in any case; expressions have no switch for that in JSON Schema.
fn any_case(word: &str) -> String {
    let either = |c: char| match c {
        'a'..='z' => format!("[{c}{}]", c.to_ascii_uppercase()),
        _ => c.to_string(),
    };
    word.chars().map(either).collect()
}

#[cfg(test)]
pub(in crate::model) mod tests {
    use super::*;

    /// URLs, and whether each may be opened and loaded.
    pub(in crate::model) const CASES: [(&str, bool, bool); 58] = [
        ("https://example.com", true, true),
        ("http://example.com:8080/a?b=c&d=%20#e", true, true),
        ("HTTPS://EXAMPLE.COM/", true, true),
        ("https://example.com/größe/日本", true, true),
        ("https://[::1]/", true, true),
        ("https://example.com/a:b@c/javascript:x", true, true),
        ("https://{{host}}/a", true, true),
        ("https://example.com/{{ a }}?b={{b}}", true, true),
        ("{{link}}", true, true),
        ("{{ link }}", true, true),
        ("mailto:ada@example.com?subject=Hi", true, false),
        ("MailTo:{{address}}", true, false),
        ("tel:+15551234", true, false),
        ("sms:+15551234", true, false),
        ("shop://orders/42", true, false),
        ("com.example.shop://{{path}}", true, false),
        ("shop://", true, false),
        ("ftp://example.com/a", true, false),
        ("", false, false),
        ("https://", false, false),
        ("https:///path", false, false),
        ("https://?q", false, false),
        ("http:example.com", false, false),
        ("https:/example.com", false, false),
        ("mailto:", false, false),
        ("//example.com/a", false, false),
        ("/orders/42", false, false),
        ("orders", false, false),
        ("shop:orders/42", false, false),
        ("{{base}}/path", false, false),
        ("{{scheme}}://host", false, false),
        ("{{a}}{{b}}", false, false),
        ("ht{{a}}://host", false, false),
        ("https://example.com/{a}", false, false),
        ("https://example.com/a b", false, false),
        (" https://example.com", false, false),
        ("https://example.com\n", false, false),
        ("https://example.com\\@evil.example", false, false),
        ("https://example.com/\u{202e}gpj", false, false),
        ("https://example.com/<script>", false, false),
        ("javascript:alert(1)", false, false),
        ("JaVaScRiPt:alert(1)", false, false),
        ("javascript://%0aalert(1)", false, false),
        ("JAVASCRIPT://example.com/%0aalert(1)", false, false),
        ("java\nscript:alert(1)", false, false),
        ("java\tscript://x", false, false),
        ("\u{1}javascript:alert(1)", false, false),
        ("  javascript:alert(1)", false, false),
        ("javascript&colon;alert(1)", false, false),
        ("javascript%3Aalert(1)", false, false),
        ("javascript\u{200b}://x", false, false),
        ("data:text/html,<script>", false, false),
        ("Data://text/html;base64,AAAA", false, false),
        ("vbscript://x", false, false),
        ("file:///etc/passwd", false, false),
        ("blob:https://example.com/1", false, false),
        ("intent://scan/#Intent;end", false, false),
        ("ms-msdt://x", false, false),
    ];

    #[test]
    fn what_may_be_opened_and_what_may_be_loaded() {
        assert!([&WEB, &LINK, &UNSEEN].iter().all(|pattern| pattern.compiles()));
        for (url, link, web) in CASES {
            assert_eq!(Target::Link.check(url).is_ok(), link, "{url:?} as a link");
            assert_eq!(Target::Web.check(url).is_ok(), web, "{url:?} as a picture");
        }
        let long = format!("https://a/{}", "x".repeat(CHARACTERS_MAX - 10));
        assert!(Target::Web.check(&long).is_ok() && Target::Web.check(&format!("{long}x")).is_err());
    }

    #[test]
    fn what_passes_as_written_passes_filled_in_and_no_other_scheme_does() {
        for (url, link, web) in CASES {
            for (target, passes) in [(Target::Link, link), (Target::Web, web)] {
                let filled = target.check_filled(url).is_ok();
                assert!(filled || !passes, "{url:?} {target:?}");
                let harmless = ["https://example.com", "https://{{host}}"]
                    .iter()
                    .any(|start| url.starts_with(start));
                assert!(!filled || passes || harmless, "{url:?} {target:?}");
            }
        }
        for (url, passes) in [
            ("https://example.com/Ada Lovelace", true),
            ("https://example.com/\n", false),
            ("https://example.com/\u{200b}", false),
            ("https:// example.com", false),
            (" https://example.com", false),
            ("https://example.com ", false),
        ] {
            assert_eq!(Target::Web.check_filled(url).is_ok(), passes, "{url:?}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_in_the_way() {
        let why = |url: &str| Target::Link.check(url).unwrap_err();
        assert_eq!(why("JaVaScript:alert(1)"), "must not have the scheme javascript");
        assert_eq!(
            why("{{base}}/path"),
            "must begin with its scheme in plain text, or be one variable as a whole"
        );
        assert_eq!(why("https:///x"), Target::Link.says());
        assert_eq!(why("orders"), Target::Link.says());
    }
}
