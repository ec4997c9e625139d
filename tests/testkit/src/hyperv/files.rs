//! Files of the stand-in's host: below its state folder, drive `C:` is the folder `C`.

use super::Refusal;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// The variable, unless the file `local-app-data` in the state folder says another.
pub const LOCAL_APP_DATA: &str = r"C:\Users\me\AppData\Local";

/// Returns where a path of the host is. A path without a drive is none of Windows.
pub fn place(state: &Path, path: &str) -> Option<PathBuf> {
    let rest = path.strip_prefix(r"C:\")?;
    if rest.is_empty() || rest.contains('/') {
        return None;
    }
    Some(
        rest.split('\\')
            .fold(state.join("C"), |place, name| place.join(name)),
    )
}

/// What a method of .NET throws, as PowerShell tells it.
fn thrown(method: &str, arguments: usize, words: &str, id: &str) -> Refusal {
    Refusal {
        message: format!("Exception calling \"{method}\" with \"{arguments}\" argument(s): \"{words}\""),
        id: id.to_owned(),
        category: "NotSpecified".to_owned(),
    }
}

fn refused(method: &str, arguments: usize, path: &str) -> impl Fn(io::Error) -> Refusal {
    let (method, path) = (method.to_owned(), path.to_owned());
    move |error| match error.kind() {
        io::ErrorKind::NotFound => {
            let words = format!("Could not find a part of the path '{path}'.");
            thrown(&method, arguments, &words, "DirectoryNotFoundException")
        }
        _ => {
            let words = format!("Access to the path '{path}' is denied.");
            thrown(&method, arguments, &words, "UnauthorizedAccessException")
        }
    }
}

fn digest(place: &Path) -> io::Result<String> {
    let digest = Sha256::digest(fs::read(place)?);
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Does what a script of `host/` does with files; `None` for another script.
pub fn act(script: &str, parameters: &Map<String, Value>, state: &Path) -> Option<Result<Value, Refusal>> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| parameters.get(name).and_then(Value::as_u64).unwrap_or_default();
    Some(match script {
        "host/helper" => Ok(helper(state)),
        "host/read-file" => read(text("path"), number("offset"), number("count"), state),
        "host/write-part" => write(text("part"), number("offset"), text("piece"), state),
        "host/put-file" => put(parameters, state),
        "host/make-folder" => make_folder(text("path"), state),
        _ => return None,
    })
}

fn helper(state: &Path) -> Value {
    let folder =
        fs::read_to_string(state.join("local-app-data")).unwrap_or_else(|_| LOCAL_APP_DATA.to_owned());
    if folder.is_empty() {
        return json!({ "path": "", "sha256": "" });
    }
    let path = format!(r"{folder}\vmserial\bin\vmserial.exe");
    let sha256 = place(state, &path).and_then(|place| digest(&place).ok());
    json!({ "path": path, "sha256": sha256.unwrap_or_default() })
}

fn known(state: &Path, path: &str) -> Result<PathBuf, Refusal> {
    place(state, path).ok_or_else(|| {
        thrown(
            "Open",
            4,
            "The given path's format is not supported.",
            "NotSupportedException",
        )
    })
}

fn read(path: &str, offset: u64, count: u64, state: &Path) -> Result<Value, Refusal> {
    let file = known(state, path)?;
    if !file.is_file() {
        return Ok(json!({ "exists": false, "length": 0, "sha256": "", "piece": "" }));
    }
    let refused = refused("Open", 4, path);
    let mut open = fs::File::open(&file).map_err(&refused)?;
    let length = open.metadata().map_err(&refused)?.len();
    open.seek(SeekFrom::Start(offset)).map_err(&refused)?;
    let mut piece = Vec::new();
    open.take(count).read_to_end(&mut piece).map_err(&refused)?;
    let sha256 = if offset == 0 {
        digest(&file).map_err(&refused)?
    } else {
        String::new()
    };
    Ok(json!({ "exists": true, "length": length, "sha256": sha256, "piece": encode(&piece) }))
}

fn write(part: &str, offset: u64, piece: &str, state: &Path) -> Result<Value, Refusal> {
    let refused = refused("Open", 4, part);
    let bytes = crate::powershell::base64(piece).ok_or_else(|| {
        thrown(
            "FromBase64String",
            1,
            "Invalid length for a Base-64 char array or string.",
            "FormatException",
        )
    })?;
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .create(true)
        .truncate(false)
        .write(true)
        .open(known(state, part)?)
        .map_err(&refused)?;
    file.set_len(offset).map_err(&refused)?;
    file.seek(SeekFrom::Start(offset)).map_err(&refused)?;
    file.write_all(&bytes).map_err(&refused)?;
    Ok(json!({ "length": offset + bytes.len() as u64 }))
}

fn put(parameters: &Map<String, Value>, state: &Path) -> Result<Value, Refusal> {
    let text = |name: &str| parameters.get(name).and_then(Value::as_str).unwrap_or_default();
    let (path, part) = (text("path"), text("part"));
    let (there, arrived) = (known(state, path)?, known(state, part)?);
    if digest(&there).unwrap_or_default() != text("expected") {
        return Err(Refusal {
            message: format!("'{path}' is no longer as it was looked at"),
            id: "VmserialChanged".to_owned(),
            category: "InvalidOperation".to_owned(),
        });
    }
    if state.join("in-use").exists() {
        return Err(refused("Replace", 3, path)(
            io::ErrorKind::PermissionDenied.into(),
        ));
    }
    if text("sha256").is_empty() {
        for file in [&there, &arrived] {
            if file.exists() {
                fs::remove_file(file).map_err(refused("Delete", 1, path))?;
            }
        }
    } else if digest(&arrived).unwrap_or_default() != text("sha256") {
        return Err(Refusal {
            message: format!("'{part}' did not arrive whole"),
            id: format!("'{part}' did not arrive whole"),
            category: "OperationStopped".to_owned(),
        });
    } else {
        fs::rename(&arrived, &there).map_err(refused("Move", 2, path))?;
    }
    Ok(json!({ "replaced": true }))
}

fn make_folder(path: &str, state: &Path) -> Result<Value, Refusal> {
    let folder = known(state, path)?;
    fs::create_dir_all(folder).map_err(refused("CreateDirectory", 1, path))?;
    Ok(json!({ "path": path }))
}

/// Writes base64.
pub(crate) fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or_default());
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for index in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= three.len() {
                char::from(digit)
            } else {
                '='
            });
        }
    }
    text
}
