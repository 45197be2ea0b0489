//! Classification of plan summaries.

/// One of the catalog's `PLANS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Plan {
    IndexScan,
    CollectionScan,
    IdHack,
    Other,
}

impl Plan {
    pub(super) const ALL: [Self; 4] = [Self::IndexScan, Self::CollectionScan, Self::IdHack, Self::Other];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::IndexScan => "ixscan",
            Self::CollectionScan => "collscan",
            Self::IdHack => "idhack",
            Self::Other => "other",
        }
    }

    /// The worst of the plan stages in the summary. Text in braces is skipped, since it has field names of the
    /// index.
    pub(super) fn of(summary: &str) -> Self {
        let mut depth = 0_usize;
        let outside: String = summary
            .chars()
            .map(|character| {
                match character {
                    '{' => depth += 1,
                    '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                if depth == 0 && (character.is_ascii_alphanumeric() || character == '_') {
                    character
                } else {
                    ' '
                }
            })
            .collect();
        let has = |stages: &[&str]| outside.split_whitespace().any(|stage| stages.contains(&stage));
        if has(&["COLLSCAN"]) {
            Self::CollectionScan
        } else if has(&["IXSCAN", "COUNT_SCAN", "DISTINCT_SCAN", "TEXT", "TEXT_MATCH", "GEO_NEAR_2DSPHERE"]) {
            Self::IndexScan
        } else if has(&["IDHACK", "CLUSTERED_IDHACK", "EXPRESS_IXSCAN", "EXPRESS_CLUSTERED_IXSCAN"]) {
            Self::IdHack
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use txnscope_catalog::PLANS;

    use super::*;

    #[test]
    fn plans_match_the_catalog() {
        assert_eq!(Plan::ALL.map(Plan::as_str), PLANS);
        for (index, plan) in Plan::ALL.into_iter().enumerate() {
            assert_eq!(plan as usize, index, "the order is that of the declaration");
        }
    }

    #[test]
    fn worst_plan_stage_is_selected_and_field_names_ignored() {
        for (summary, plan) in [
            ("COLLSCAN", Plan::CollectionScan),
            ("IXSCAN { COLLSCAN: 1 }", Plan::IndexScan),
            ("IXSCAN { a: 1 }, IXSCAN { b: 1 }", Plan::IndexScan),
            ("IXSCAN { a: 1 }, COLLSCAN", Plan::CollectionScan),
            ("COUNT_SCAN { a: 1 }", Plan::IndexScan),
            ("IDHACK", Plan::IdHack),
            ("EXPRESS_IXSCAN { _id: 1 },EXPRESS_DELETE", Plan::IdHack),
            ("EOF", Plan::Other),
            ("", Plan::Other),
            ("}}} {{", Plan::Other),
        ] {
            assert_eq!(Plan::of(summary), plan, "{summary}");
        }
    }
}
