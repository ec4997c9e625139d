//! Gathers vmserial's PowerShell templates, which the stand-in of PowerShell knows by their text.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap_or_default())
        .join("../../templates/powershell")
        .canonicalize()?;
    let mut files = Vec::new();
    gather(&root, &mut files)?;
    files.sort();
    let mut list = String::from("&[\n");
    for file in &files {
        let name = file
            .strip_prefix(&root)
            .unwrap_or(file)
            .to_string_lossy()
            .replace('\\', "/");
        let name = name.trim_end_matches(".j2");
        let _ = writeln!(
            list,
            "    ({:?}, include_str!({file:?})),",
            format!("powershell/{name}")
        );
    }
    list.push(']');
    let to = PathBuf::from(env::var("OUT_DIR").unwrap_or_default()).join("templates.rs");
    fs::write(to, list)?;
    // The folder itself is watched through its files; a new one changes the folder.
    println!("cargo:rerun-if-changed={}", root.display());
    Ok(())
}

fn gather(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            gather(&path, files)?;
        } else if path.to_string_lossy().ends_with(".ps1.j2") {
            files.push(path);
        }
    }
    Ok(())
}
