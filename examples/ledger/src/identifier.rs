//! Identifiers that clients choose, such as the number of an invoice: their validation and equality.
//!
//! Texts that a person reads as the same number are equal: `INV-1`, ` INV-1`, `inv-1` and `INV‑1` with another hyphen
//! are the same invoice. Invisible characters are rejected, because their intention cannot be determined afterwards.

use unicode_normalization::UnicodeNormalization;

use crate::error::AppError;

/// The first digit of each decimal script used for invoice numbers. Nine more follow each.
const ZEROS: &str = "\u{660}\u{6f0}\u{7c0}\u{966}\u{9e6}\u{a66}\u{ae6}\u{b66}\u{be6}\u{c66}\u{ce6}\u{d66}\u{e50}\u{ed0}\u{f20}\u{1040}\u{17e0}\u{1810}";

/// Lowercase letters of other scripts that look like a Latin letter, themselves or as capitals, with that letter.
const LOOK_ALIKES: (&str, &str) =
    ("авеѕіјкмнорстухһԁԛԝӏαβεζηικμνορτυχ", "abesijkmhopctyxhdqwlabezhikmnoptyx");

/// Validates an identifier and trims its white space.
///
/// # Errors
///
/// If the identifier is empty or contains an invisible character.
pub(crate) fn identifier(field: &'static str, text: &str) -> Result<String, AppError> {
    let text = text.trim();
    if let Some(hidden) = text.chars().find(|c| is_invisible(*c)) {
        let code = u32::from(hidden);
        return Err(AppError::invalid(format!(
            "{field} must not contain the invisible character U+{code:04X}: remove it"
        )));
    }
    if text.is_empty() {
        return Err(AppError::invalid(format!("{field} must not be empty")));
    }
    Ok(text.to_owned())
}

/// The normal form of an identifier: two identifiers are equal if their normal forms are.
///
/// Capitals become lowercase, compatibility forms (full-width, superscript, ligatures, composed or decomposed) become
/// plain, every dash becomes `-`, white space becomes one space, digits become ASCII, and Greek and Cyrillic
/// look-alikes become Latin. Invisible characters in stored data from older releases are removed.
pub(crate) fn normal_form(text: &str) -> String {
    // The result of one pass may have a plainer form, so passes are repeated.
    fold(&fold(text))
}

fn fold(text: &str) -> String {
    let visible = text.nfkc().filter(|c| !is_invisible(*c) || c.is_whitespace());
    // Lowercase first: the capital ẞ has no other capital form, and the lowercase ß has one, SS.
    let small =
        visible.flat_map(char::to_lowercase).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    let plain: String = small.map(plain).collect();
    plain.nfkc().collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a text has visible characters.
pub(crate) fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || is_invisible(c))
}

/// The plainest form of a letter, digit or mark.
fn plain(c: char) -> char {
    if c.is_ascii() {
        return c;
    }
    if is_dash(c) {
        return '-';
    }
    let (from, to) = LOOK_ALIKES;
    if let Some((_, latin)) = from.chars().zip(to.chars()).find(|(alike, _)| *alike == c) {
        return latin;
    }
    match c {
        '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2b9}' | '\u{2bb}'..='\u{2bd}' | '\u{2032}' => '\'',
        '\u{2044}' | '\u{2215}' | '\u{29f8}' => '/',
        '\u{2216}' | '\u{29f5}' | '\u{29f9}' => '\\',
        '\u{2017}' | '\u{203f}' => '_',
        '\u{2022}' | '\u{2219}' | '\u{22c5}' => '\u{b7}',
        _ => ZEROS
            .chars()
            .find_map(|zero| u32::from(c).checked_sub(u32::from(zero)).filter(|digit| *digit < 10))
            .and_then(|digit| char::from_digit(digit, 10))
            .unwrap_or(c),
    }
}

const fn is_dash(c: char) -> bool {
    matches!(
        c,
        '\u{2d7}' | '\u{58a}' | '\u{5be}' | '\u{1400}' | '\u{1806}' | '\u{2010}'
            ..='\u{2015}'
                | '\u{2043}'
                | '\u{2212}'
                | '\u{2796}'
                | '\u{2cba}'
                | '\u{2e1a}'
                | '\u{2e3a}'
                | '\u{2e3b}'
                | '\u{2e40}'
                | '\u{2e5d}'
                | '\u{30a0}'
                | '\u{10ead}'
    )
}

/// Control and format characters (bidirectional marks, joiners, the soft hyphen, tags), fillers, variation selectors,
/// the replacement character, and private use characters.
const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}'
            | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{2800}' | '\u{3164}' | '\u{e000}'..='\u{f8ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffd}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{10ffff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surrounding_white_space_is_trimmed() {
        for text in ["INV-1", " INV-1", "INV-1 ", "\tINV-1\r\n", "\u{a0}INV-1\u{3000}"] {
            assert_eq!(identifier("invoiceId", text).unwrap(), "INV-1", "{text:?}");
        }
    }

    #[test]
    fn invisible_characters_are_rejected_with_code_point() {
        for hidden in "\0\t\n\u{7f}\u{85}\u{ad}\u{34f}\u{61c}\u{180e}\u{200b}\u{200d}\u{200e}\u{200f}\u{202e}\u{2028}\u{2060}\u{2066}\u{2800}\u{3164}\u{fe0f}\u{feff}\u{fffd}\u{e0020}".chars() {
            let error = identifier("invoiceId", &format!("INV{hidden}-1")).unwrap_err().to_string();
            let code = format!("U+{:04X}", u32::from(hidden));
            assert!(error.starts_with("invoiceId ") && error.contains(&code), "{code}: {error}");
        }
        for nothing in ["", " ", "\u{3000}"] {
            let error = identifier("invoiceId", nothing).unwrap_err().to_string();
            assert_eq!(error, "invoiceId must not be empty");
        }
    }

    #[test]
    fn look_alikes_share_one_normal_form() {
        for (form, same) in [
            (
                "inv-1",
                &[
                    "INV-1",
                    "Inv-1",
                    " inv-1 ",
                    "INV\u{2010}1",
                    "INV\u{2011}1",
                    "INV\u{2013}1",
                    "INV\u{2212}1",
                    "INV\u{fe63}1",
                    "INV\u{ff0d}1",
                    "ＩＮＶ-１",
                    "INV-¹",
                    "INV-①",
                    "INV-\u{661}",
                    "INV-\u{967}",
                    "İNV-1",
                    "ınv-1",
                    "\u{406}NV-1",
                    "\u{399}\u{39d}V-1",
                    "IN\u{200b}V-1",
                    "I\u{ad}NV-1",
                    "\u{feff}INV-1",
                    "𝐈𝐍𝐕-𝟏",
                ][..],
            ),
            ("rechnung ä 7", &["Rechnung  Ä 7", "RECHNUNG\u{a0}A\u{308}\u{2003}7"]),
            ("strasse", &["Straße", "STRASSE", "ﬆrasse"]),
            ("2024/7", &["2024\u{2044}7", "2024\u{ff0f}7"]),
        ] {
            for text in same {
                let found = normal_form(text).replace('\u{307}', "");
                assert_eq!(found, form, "{text:?}");
            }
        }
    }

    #[test]
    fn different_identifiers_have_different_normal_forms() {
        let texts = [
            "INV-1",
            "INV-11",
            "INV1",
            "INV 1",
            "INV_1",
            "INV-l",
            "1-INV",
            "INV-1-2",
            "INV-12",
            "счёт-1",
            "счет-1",
        ];
        let forms: std::collections::BTreeSet<_> = texts.iter().map(|text| normal_form(text)).collect();
        assert_eq!(forms.len(), texts.len(), "{forms:?}");
    }

    #[test]
    fn normal_form_is_idempotent() {
        assert_eq!(LOOK_ALIKES.0.chars().count(), LOOK_ALIKES.1.chars().count());
        // Characters of scripts with cases, widths and other forms.
        let blocks = [
            0..0x3400,
            0xa640..0xac00,
            0xf900..0x1_0000,
            0x1_0400..0x1_0500,
            0x1_d400..0x1_d800,
            0x1_e900..0x1_f200,
        ];
        for c in blocks.into_iter().flatten().filter_map(char::from_u32) {
            let code = u32::from(c);
            let once = normal_form(&format!("a{c}b"));
            assert_eq!(normal_form(&once), once, "U+{code:04X}");
        }
    }
}
