//! What every image of a folder is brought to.

use std::fmt;

use super::super::MOST_SIDE;

/// Size and, if it is not to follow from the files, number of channels. Its text is `HEIGHTxWIDTH` or
/// `HEIGHTxWIDTHxCHANNELS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageForm {
    /// Rows, in pixels, 1 to [`MOST_SIDE`].
    pub height: u8,
    /// Columns, in pixels, 1 to [`MOST_SIDE`].
    pub width: u8,
    /// 1 for grey, 3 for RGB; `None` follows the files.
    pub channels: Option<u8>,
}

impl Default for ImageForm {
    fn default() -> Self {
        Self { height: 32, width: 32, channels: None }
    }
}

impl fmt::Display for ImageForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)?;
        self.channels.map_or(Ok(()), |channels| write!(f, "x{channels}"))
    }
}

impl ImageForm {
    /// A folder's name and its form: what stands behind the last `@`, if that is a form, else the default.
    pub fn split_off(text: &str) -> (&str, Self) {
        let form = text.rsplit_once('@').and_then(|(folder, form)| Some((folder, Self::parse(form)?)));
        form.unwrap_or((text, Self::default()))
    }

    fn parse(text: &str) -> Option<Self> {
        let numbers: Vec<u8> = text.split('x').map(|number| number.parse().ok()).collect::<Option<_>>()?;
        let (height, width, channels) = match *numbers {
            [height, width] => (height, width, None),
            [height, width, channels @ (1 | 3)] => (height, width, Some(channels)),
            _ => return None,
        };
        let is_side = |side| (1..=MOST_SIDE).contains(&side);
        (is_side(height) && is_side(width)).then_some(Self { height, width, channels })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_stand_behind_the_last_at_sign() {
        let form = |height, width, channels| ImageForm { height, width, channels };
        for (text, folder, expected) in [
            ("a", "a", ImageForm::default()),
            ("a@8x64", "a", form(8, 64, None)),
            ("a@8x8x1", "a", form(8, 8, Some(1))),
            ("a@8x8x3", "a", form(8, 8, Some(3))),
            ("me@home", "me@home", ImageForm::default()),
            ("me@home@1x1", "me@home", form(1, 1, None)),
        ] {
            assert_eq!(ImageForm::split_off(text), (folder, expected));
        }
        // A form that cannot be is taken for a part of the name, and that folder is then not found.
        for text in ["a@0x8", "a@65x8", "a@8x8x2", "a@8", "a@8x", "a@8x8x3x3", "a@", "a@-8x8"] {
            assert_eq!(ImageForm::split_off(text), (text, ImageForm::default()));
        }
    }
}
