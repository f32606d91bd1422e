//! Plain text for tasks that keep what a model knew: files in pieces of about a context's length.

use super::recipe::TaskRecipe;
use crate::error::{Error, Result};
use std::path::{Path, PathBuf};

/// Bytes of all text files together.
const MOST_BYTES: u64 = 4 << 30;

/// The pieces of the files that `recipe.texts` names, about `size` bytes each: whole paragraphs, longer ones cut
/// at a space.
///
/// # Errors
/// A recipe that names none; files that cannot be read, are not UTF-8, are too large, or hold no text.
pub(super) fn read(recipe: &TaskRecipe, size: usize) -> Result<Vec<String>> {
    let key = format!("tasks: {}: texts", recipe.name);
    if recipe.texts.is_empty() {
        let problem = "is not given; name a text file or a folder of .txt files";
        return Err(Error::usage(key, problem));
    }
    let mut out = Vec::new();
    let mut bytes = 0;
    for path in files(Path::new(&recipe.texts))? {
        bytes += std::fs::metadata(&path).map_err(Error::io(&path))?.len();
        if bytes > MOST_BYTES {
            let problem = format!("holds more than {MOST_BYTES} bytes; take a part of it");
            return Err(Error::usage(key, problem));
        }
        let text =
            String::from_utf8(std::fs::read(&path).map_err(Error::io(&path))?).map_err(|e| {
                Error::format(&path, "text", format!("{}; save it as UTF-8", e.utf8_error()))
            })?;
        pieces(&text, size.max(64), &mut out);
    }
    match out.is_empty() {
        true => Err(Error::usage(key, format!("{} holds no text", recipe.texts))),
        false => Ok(out),
    }
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let mut out = Vec::new();
    for entry in std::fs::read_dir(path).map_err(Error::io(path))? {
        let found = entry.map_err(Error::io(path))?.path();
        if found.extension().is_some_and(|e| e == "txt") {
            out.push(found);
        }
    }
    out.sort();
    Ok(out)
}

fn pieces(text: &str, size: usize, out: &mut Vec<String>) {
    let mut piece = String::new();
    let mut put = |piece: &mut String| {
        let text = std::mem::take(piece);
        if !text.trim().is_empty() {
            out.push(text.trim().to_string());
        }
    };
    for paragraph in text.split("\n\n") {
        let mut rest = paragraph.trim();
        while rest.len() > size {
            let mut at = size;
            while !rest.is_char_boundary(at) {
                at -= 1;
            }
            let at = rest[..at].rfind(char::is_whitespace).filter(|&a| a > 0).unwrap_or(at);
            put(&mut piece);
            piece = rest[..at].to_string();
            put(&mut piece);
            rest = rest[at..].trim_start();
        }
        if piece.len() + rest.len() + 2 > size {
            put(&mut piece);
        }
        if !piece.is_empty() {
            piece.push_str("\n\n");
        }
        piece.push_str(rest);
    }
    put(&mut piece);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_lose_no_word() {
        let long = "word ".repeat(100);
        let text = format!("one two\n\nthree\n\n{long}\n\nüüüüü{}\n\nlast", "ü".repeat(200));
        let mut out = Vec::new();
        pieces(&text, 64, &mut out);
        assert!(out.iter().all(|p| p.len() <= 64 && !p.is_empty()));
        let words = |t: &str| t.split_whitespace().collect::<String>();
        assert_eq!(words(&out.join(" ")), words(&text));
        assert_eq!(out[0], "one two\n\nthree");
    }

    #[test]
    fn what_is_no_text_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = |texts: &Path| TaskRecipe {
            name: "text".into(),
            texts: texts.display().to_string(),
            ..TaskRecipe::default()
        };
        assert!(
            read(&TaskRecipe { name: "text".into(), ..TaskRecipe::default() }, 64)
                .unwrap_err()
                .to_string()
                .contains("is not given")
        );
        let said = read(&recipe(folder.path()), 64).unwrap_err().to_string();
        assert!(said.contains("holds no text"), "{said}");
        let bad = folder.path().join("a.txt");
        std::fs::write(&bad, [0xff, 0xfe]).unwrap();
        let said = read(&recipe(folder.path()), 64).unwrap_err().to_string();
        assert!(said.contains("a.txt") && said.contains("UTF-8"), "{said}");
    }
}
