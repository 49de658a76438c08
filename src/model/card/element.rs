//! The twenty elements of a card's body, in the order of the documentation. Nothing here draws one.

use super::action::ACTIONS;
use super::shared::{COLOR, ICON, LENGTH, PADDING, PICTURE, SIZE, WEIGHT};
use crate::model::document::{Bounds, Family, Kind, Member, Rule, Shape, may, must};

/// All elements.
pub(super) static ELEMENTS: Family = Family {
    noun: "element",
    one: "an element",
    common: &[must("id", Rule::Id)],
    kinds: &[
        &TEXT,
        &MARKDOWN,
        &IMAGE,
        &ICON_ELEMENT,
        &AVATAR,
        &BADGE,
        &CHIP,
        &CODE_BLOCK,
        &DIVIDER,
        &SPACER,
        &PROGRESS_BAR,
        &ROW,
        &COLUMN,
        &GRID,
        &ACCORDION,
        &TABS,
        &BUTTON,
        &ICON_BUTTON,
        &LINK,
        &TABLE,
    ],
    typed: None,
};

/// One element.
pub(super) static CHILD: Rule = Rule::Kind(&ELEMENTS);

const CROSS_ALIGN: Member = may("crossAlign", Rule::Word(&["start", "center", "end"]), "Default start.");

const fn children(name: &'static str) -> Member {
    must(name, Rule::List(1, &CHILD))
}

const fn action() -> Member {
    must("action", Rule::Kind(&ACTIONS))
}

const fn kind(word: &'static str, about: &'static str, members: &'static [Member]) -> Kind {
    Kind {
        word,
        about,
        members,
        any_of: &[],
    }
}

const fn whole(least: u32) -> Rule {
    Rule::Number(Bounds {
        least,
        most: None,
        whole: true,
    })
}

const fn length(name: &'static str) -> Member {
    may(name, LENGTH, "")
}

const fn color(name: &'static str) -> Member {
    may(name, COLOR, "")
}

const fn padding() -> Member {
    may("padding", PADDING, "")
}

const fn switch(name: &'static str, about: &'static str) -> Member {
    may(name, Rule::Switch, about)
}

static TEXT: Kind = kind(
    "text",
    "A text in one style.",
    &[
        must("content", Rule::Text),
        may(
            "variant",
            Rule::Word(&[
                "title", "heading1", "heading2", "heading3", "heading4", "body", "caption1", "caption2",
            ]),
            "32, 24, 20, 18, 16, 14, 12 and 10 pixels. Default body.",
        ),
        color("color"),
        may(
            "align",
            Rule::Word(&["left", "center", "right", "justify"]),
            "Default left.",
        ),
        may("fontWeight", WEIGHT, "Default regular."),
        may("maxLines", whole(1), ""),
        padding(),
    ],
);

static MARKDOWN: Kind = kind(
    "markdown",
    "A text in Markdown.",
    &[
        must("content", Rule::Text),
        length("baseFontSize"),
        color("linkColor"),
        color("color"),
        may("lineHeight", LENGTH, "A multiple of the font size."),
    ],
);

static IMAGE: Kind = kind(
    "image",
    "A picture.",
    &[
        must("url", PICTURE),
        may("altText", Rule::Text, ""),
        may("fit", Rule::Word(&["cover", "contain", "fill"]), "Default cover."),
        may("width", SIZE, ""),
        may("height", SIZE, ""),
        length("borderRadius"),
        padding(),
    ],
);

static ICON_ELEMENT: Kind = Kind {
    any_of: &["name", "url"],
    ..kind(
        "icon",
        "A small picture of one color.",
        &[
            may("name", Rule::Text, ""),
            may("url", PICTURE, "Wins over the name."),
            length("size"),
            color("color"),
            color("backgroundColor"),
            length("borderRadius"),
            length("padding"),
        ],
    )
};

static AVATAR: Kind = kind(
    "avatar",
    "The picture of somebody, or initials.",
    &[
        may("imageUrl", PICTURE, ""),
        may("fallbackInitials", Rule::Short(2), "Shown when there is no picture."),
        length("size"),
        length("borderRadius"),
        color("backgroundColor"),
        length("fontSize"),
        may("fontWeight", WEIGHT, ""),
    ],
);

static BADGE: Kind = kind(
    "badge",
    "A short text on a color.",
    &[
        must("text", Rule::Text),
        color("color"),
        length("size"),
        color("backgroundColor"),
        color("borderColor"),
        length("borderWidth"),
        length("borderRadius"),
        padding(),
        length("fontSize"),
    ],
);

static CHIP: Kind = kind(
    "chip",
    "A short text with an icon.",
    &[
        must("text", Rule::Text),
        color("color"),
        may("icon", ICON, ""),
        color("backgroundColor"),
        color("borderColor"),
        length("borderWidth"),
        length("borderRadius"),
        padding(),
        length("fontSize"),
    ],
);

static CODE_BLOCK: Kind = kind(
    "codeBlock",
    "A text as it is, in letters of one width.",
    &[
        must("content", Rule::Text),
        may("language", Rule::Text, ""),
        color("backgroundColor"),
        color("textColor"),
        padding(),
        length("borderRadius"),
        length("fontSize"),
        length("languageLabelFontSize"),
        color("languageLabelColor"),
    ],
);

static DIVIDER: Kind = kind(
    "divider",
    "A line across.",
    &[color("color"), length("thickness"), length("margin")],
);

static SPACER: Kind = kind("spacer", "Nothing, so high.", &[must("height", LENGTH)]);

static PROGRESS_BAR: Kind = kind(
    "progressBar",
    "How much is done.",
    &[
        must(
            "value",
            Rule::Number(Bounds {
                least: 0,
                most: Some(100),
                whole: false,
            }),
        ),
        color("color"),
        color("trackColor"),
        length("height"),
        may("label", Rule::Text, ""),
        length("borderRadius"),
        length("labelFontSize"),
        color("labelColor"),
    ],
);

static ROW: Kind = kind(
    "row",
    "Elements side by side.",
    &[
        children("items"),
        length("gap"),
        may(
            "align",
            Rule::Word(&["start", "center", "end", "spaceBetween", "spaceAround"]),
            "Default start.",
        ),
        CROSS_ALIGN,
        switch("wrap", "Default false."),
        switch("scrollable", "Default false."),
        length("peek"),
        may("snap", Rule::Word(&["item", "free"]), "Default item."),
        padding(),
        color("backgroundColor"),
        length("borderRadius"),
        color("borderColor"),
        length("borderWidth"),
    ],
);

static COLUMN: Kind = kind(
    "column",
    "Elements below each other.",
    &[
        children("items"),
        length("gap"),
        may(
            "align",
            Rule::Word(&["start", "center", "end", "stretch"]),
            "Default start.",
        ),
        CROSS_ALIGN,
        padding(),
        color("backgroundColor"),
        length("borderRadius"),
        color("borderColor"),
        length("borderWidth"),
    ],
);

static GRID: Kind = kind(
    "grid",
    "Elements in equal columns.",
    &[
        children("items"),
        may("columns", Rule::Choice(&[2, 3, 4]), "Default 2."),
        length("gap"),
        padding(),
        color("backgroundColor"),
        length("borderRadius"),
        color("borderColor"),
        length("borderWidth"),
    ],
);

static ACCORDION: Kind = kind(
    "accordion",
    "Elements under a header that opens them.",
    &[
        must("header", Rule::Text),
        children("body"),
        may("headerIcon", ICON, ""),
        switch("expandedByDefault", "Default false."),
        switch("border", ""),
        padding(),
        length("fontSize"),
        may("fontWeight", WEIGHT, ""),
        length("borderRadius"),
    ],
);

static TABS: Kind = kind(
    "tabs",
    "Elements in sheets, of which one is seen.",
    &[
        must("tabs", Rule::List(1, &TAB_RULE)),
        may("defaultActiveTab", whole(0), "Counted from 0. Default 0."),
        may(
            "tabAlign",
            Rule::Word(&["start", "center", "stretch"]),
            "Default start.",
        ),
        may("tabPadding", PADDING, ""),
        may("contentPadding", PADDING, ""),
        length("fontSize"),
    ],
);

static TAB_RULE: Rule = Rule::Object(&TAB);

static TAB: Shape = Shape {
    noun: "a tab",
    members: &[must("label", Rule::Text), children("content")],
    any_of: &[],
};

static BUTTON: Kind = kind(
    "button",
    "A text to press.",
    &[
        must("label", Rule::Text),
        action(),
        color("backgroundColor"),
        color("textColor"),
        may("icon", ICON, ""),
        may("iconPosition", Rule::Word(&["left", "right"]), "Default left."),
        length("size"),
        switch("fullWidth", "Default false."),
        color("borderColor"),
        length("borderWidth"),
        length("borderRadius"),
        padding(),
        length("fontSize"),
    ],
);

static ICON_BUTTON: Kind = kind(
    "iconButton",
    "An icon to press.",
    &[
        must("icon", ICON),
        action(),
        length("size"),
        color("color"),
        color("backgroundColor"),
        length("borderRadius"),
    ],
);

static LINK: Kind = kind(
    "link",
    "A text to press that looks like a link.",
    &[
        must("text", Rule::Text),
        action(),
        color("color"),
        switch("underline", "Default true."),
        length("fontSize"),
    ],
);

static TABLE: Kind = kind(
    "table",
    "Texts in rows and columns.",
    &[
        must("columns", Rule::List(1, &Rule::Text)),
        must("rows", Rule::List(0, &Rule::List(0, &Rule::Text))),
        color("headerBackgroundColor"),
        switch("border", ""),
        switch("stripedRows", ""),
        may("cellPadding", PADDING, ""),
        length("fontSize"),
        color("stripedRowColor"),
        color("borderColor"),
    ],
);
