//! Splitting of a URI at the delimiters that the driver uses.
//!
//! The driver rejects every option that it does not know, and existing URIs contain options of other drivers. To
//! leave these out, the text is split here, at the same delimiters as in the driver, and joined again. Only the
//! driver interprets the parts.

/// The scheme, the text up to the first `?`, and the options.
pub(crate) struct UriParts<'a> {
    scheme: &'a str,
    before: &'a str,
    pub(crate) options: Vec<&'a str>,
}

impl<'a> UriParts<'a> {
    pub(crate) fn new(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let (before, options) =
            rest.split_once('?').map_or((rest, None), |(before, rest)| (before, Some(rest)));
        let options = options.filter(|options| !options.is_empty());
        Some(Self { scheme, before, options: options.map_or_else(Vec::new, |all| all.split('&').collect()) })
    }

    /// A URI with these options.
    pub(crate) fn with(&self, options: &[String]) -> String {
        format!("{}://{}?{}", self.scheme, self.before, options.join("&"))
    }

    /// A URI with these options and a placeholder user. If the URI has a user itself, the result is malformed.
    pub(crate) fn with_placeholder_user(&self, options: &[String]) -> String {
        format!("{}://x:x@{}?{}", self.scheme, self.before, options.join("&"))
    }

    /// Whether a `%` before the options is not followed by two hexadecimal digits. If it is followed by a
    /// non-ASCII letter, the driver panics with a message that quotes the text.
    pub(crate) fn has_broken_escape(&self) -> bool {
        let is_whole =
            |part: &str| part.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        !self.before.split('%').skip(1).all(is_whole)
    }
}

/// Splits an option into name and value.
pub(crate) fn split_option(option: &str) -> Option<(&str, &str)> {
    option.split_once('=')
}
