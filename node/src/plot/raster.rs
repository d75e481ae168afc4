//! From SVG to pixels.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree, fontdb};

use super::{PlotError, SIZE};

/// The bundled font, under whatever name a file asks for.
static FONTS: LazyLock<Arc<fontdb::Database>> = LazyLock::new(|| {
    let mut fonts = fontdb::Database::new();
    for font in [dejavu::sans::regular(), dejavu::sans::bold()] {
        fonts.load_font_source(fontdb::Source::Binary(Arc::new(font)));
    }
    fonts.set_sans_serif_family("DejaVu Sans");
    Arc::new(fonts)
});

/// The PNG file of an SVG file of [`SIZE`].
pub(super) fn png(svg: &str) -> Result<Vec<u8>, PlotError> {
    let options = Options { fontdb: FONTS.clone(), font_family: "DejaVu Sans".into(), ..Options::default() };
    let tree = Tree::from_str(svg, &options).map_err(|error| PlotError::Draw(error.to_string()))?;
    let mut pixels = Pixmap::new(SIZE.0, SIZE.1).ok_or_else(|| PlotError::Draw("no pixels".into()))?;
    resvg::render(&tree, Transform::identity(), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| PlotError::Draw(error.to_string()))
}
