//! Where podl keeps things unless it is told otherwise.

use std::path::PathBuf;

/// `podl` below the user's data folder (`$XDG_DATA_HOME`, else `~/.local/share`; the working folder where neither is
/// known).
pub fn user_data_folder() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let base = from("XDG_DATA_HOME").or_else(|| from("HOME").map(|home| home.join(".local/share")));
    base.unwrap_or_else(|| PathBuf::from(".")).join("podl")
}

/// Data folder of a node on the chain of that name (of that file, without its ending).
pub fn default_data_dir(chain: &str) -> PathBuf {
    let name = std::path::Path::new(chain).file_stem().unwrap_or(chain.as_ref());
    user_data_folder().join(name)
}
