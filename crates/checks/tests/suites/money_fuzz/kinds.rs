//! The locations of the inputs of a field, and the check for each.

/// The location of the inputs of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Embedded,
    Tolerant,
    Group,
    View,
    Folded,
    Unwind,
    UnwindTwice,
    Missing,
    MissingView,
    Balance,
}

impl Kind {
    /// Most rounds have a kind that is not rejected as a whole.
    pub(crate) const ALL: [Self; 15] = [
        Self::Embedded,
        Self::Tolerant,
        Self::Group,
        Self::Balance,
        Self::View,
        Self::Folded,
        Self::Embedded,
        Self::Unwind,
        Self::Tolerant,
        Self::Balance,
        Self::UnwindTwice,
        Self::Group,
        Self::Missing,
        Self::Embedded,
        Self::MissingView,
    ];

    pub(crate) fn is_embedded(self) -> bool {
        matches!(self, Self::Embedded | Self::Tolerant)
    }

    pub(crate) fn rule(self) -> String {
        let from = match self {
            Self::View | Self::MissingView => "view",
            Self::Missing => "Lines",
            _ => "lines",
        };
        let join = format!(
            r#"{{ "$lookup": {{ "from": "{from}", "localField": "_id", "foreignField": "account", "as": "lines" }} }}"#
        );
        let group = r#"{ "$lookup": {
            "from": "lines",
            "let": { "account": "$_id" },
            "pipeline": [
                { "$match": { "$expr": { "$eq": [ "$account", "$$account" ] } } },
                { "$group": { "_id": null, "sum": { "$sum": "$amount" } } }
            ],
            "as": "posted"
        } }"#;
        let back = r#"{ "$group": {
            "_id": "$_id", "balance": { "$first": "$balance" }, "sum": { "$sum": "$lines.amount" }
        } }"#;
        let unwind = r#"{ "$unwind": { "path": "$lines", "preserveNullAndEmptyArrays": true } }"#;
        let (stages, expression) = match self {
            Self::Embedded | Self::Tolerant | Self::Balance => (
                "[]".to_owned(),
                r#"{ "$subtract": [ { "$sum": "$in.amount" }, { "$sum": "$out.amount" } ] }"#,
            ),
            Self::Group => (format!("[ {group} ]"), r#"{ "$sum": "$posted.sum" }"#),
            Self::View | Self::Missing | Self::MissingView => {
                (format!("[ {join} ]"), r#"{ "$sum": "$lines.amount" }"#)
            }
            Self::Folded => (
                format!(
                    r#"[ {join}, {{ "$set": {{ "sum": {{ "$sum": "$lines.amount" }} }} }}, {{ "$unset": "lines" }} ]"#
                ),
                r#""$sum""#,
            ),
            Self::Unwind => (format!("[ {join}, {unwind}, {back} ]"), r#""$sum""#),
            Self::UnwindTwice => (format!("[ {join}, {unwind} ]"), r#""$lines.amount""#),
        };
        let tolerance = if self == Self::Tolerant { "tolerance = 0.005" } else { "" };
        format!(
            "[check.derived]\nfield = \"balance\"\nstages = '''{stages}'''\nexpression = '''{expression}'''\n{tolerance}"
        )
    }
}
