//! What elements and actions of a card share: colors, paddings, sizes, icons. The elements themselves are in `element`.

use crate::model::document::token::Typed;
use crate::model::document::url::Target;
use crate::model::document::{Bounds, Pattern, Rule, Shape, may, must, pattern};

/// A number of pixels, or any other that is not negative.
pub(super) const LENGTH: Rule = Rule::Number(Bounds {
    least: 0,
    most: None,
    whole: false,
});

/// A color for each theme.
pub(super) const COLOR: Rule = Rule::Object(&COLOR_SHAPE);

/// One padding for all sides, or one for each of some.
pub(super) const PADDING: Rule = Rule::Either(
    &LENGTH,
    &Rule::Object(&PADDING_SHAPE),
    "must be a number of at least 0, or an object with any of top, right, bottom, left",
);

/// A length, or a part of the room there is.
pub(super) const SIZE: Rule = Rule::Either(
    &LENGTH,
    &PERCENT_RULE,
    "must be a number of at least 0, or a percentage such as 50%",
);

/// An icon by its name or its URL.
pub(super) const ICON: Rule = Rule::Object(&ICON_SHAPE);

/// How heavy letters are.
pub(super) const WEIGHT: Rule = Rule::Word(&["regular", "medium", "bold"]);

/// A picture that is loaded.
pub(super) const PICTURE: Rule = Rule::Url(Target::Web, Some(Typed::Image));

static COLOR_SHAPE: Shape = Shape {
    noun: "a color with light and dark",
    members: &[must("light", Rule::Form(&HEX)), must("dark", Rule::Form(&HEX))],
    any_of: &[],
};

static HEX: Pattern = pattern!(
    "^(?:#[0-9a-fA-F]{6}|transparent)$",
    "must be a color such as #1A2B3C, or transparent"
);

static PERCENT_RULE: Rule = Rule::Form(&PERCENT);

static PERCENT: Pattern = pattern!(r"^[0-9]{1,6}(?:\.[0-9]{1,6})?%$", "must be a percentage such as 50%");

static PADDING_SHAPE: Shape = Shape {
    noun: "a padding",
    members: &[
        may("top", LENGTH, ""),
        may("right", LENGTH, ""),
        may("bottom", LENGTH, ""),
        may("left", LENGTH, ""),
    ],
    any_of: &[],
};

static ICON_SHAPE: Shape = Shape {
    noun: "an icon with name or url",
    members: &[may("name", Rule::Text, ""), may("url", PICTURE, "Wins over the name.")],
    any_of: &["name", "url"],
};

/// What the card stands on.
pub(super) static STYLE: Shape = Shape {
    noun: "a style",
    members: &[
        must("background", COLOR),
        may("borderRadius", LENGTH, ""),
        may("borderColor", COLOR, ""),
        may("borderWidth", LENGTH, ""),
        may("padding", PADDING, ""),
    ],
    any_of: &[],
};
