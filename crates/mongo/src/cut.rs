//! The text of a URI in the pieces that the driver sees.
//!
//! The driver refuses every option that it does not know, and other drivers' options stand in URIs that people have. To
//! leave these out, the text is cut here, at the places where the driver cuts it, and put together again. What the pieces
//! mean, the driver alone decides.

/// The scheme and what follows it, up to the first `?` behind it; and the options.
pub(crate) struct Cut<'a> {
    scheme: &'a str,
    before: &'a str,
    pub(crate) options: Vec<&'a str>,
}

impl<'a> Cut<'a> {
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

    /// A URI with these options and a user of which nothing is known but that there is one. Where the URI names a user
    /// itself, no parser takes it.
    pub(crate) fn with_somebody(&self, options: &[String]) -> String {
        format!("{}://x:x@{}?{}", self.scheme, self.before, options.join("&"))
    }

    /// Whether a `%` before the options is followed by no two hexadecimal digits. At one that is followed by a letter
    /// beyond ASCII the driver panics, and says what stands there.
    pub(crate) fn has_broken_escape(&self) -> bool {
        let is_whole =
            |part: &str| part.as_bytes().get(..2).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
        !self.before.split('%').skip(1).all(is_whole)
    }
}

/// The name and the value of an option, as they stand there.
pub(crate) fn pair(option: &str) -> Option<(&str, &str)> {
    option.split_once('=')
}
