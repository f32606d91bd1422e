//! Words about items, from files of metadata: title, attributes, description, for the items of a log.

use super::super::Item;
use super::super::findings::Findings;
use super::columns::ItemColumns;
use super::names::Names;
use super::rows::{Cell, RowFile};
use super::{compose, plain};
use crate::Result;

/// A file of metadata and what its columns are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemFile {
    /// The file.
    pub rows: RowFile,
    /// Its columns.
    pub columns: ItemColumns,
}

/// Longest description that is kept, in characters; some shops put whole manuals there.
const MAX_DESCRIPTION: usize = 4096;

/// Reads the words of `items`, an entry each; what no file tells of is left as it is. Where an item has
/// several rows, the first one with a title counts.
///
/// # Errors
/// A file that cannot be read, a bad row where `findings` are strict.
pub fn read(
    files: &[ItemFile],
    items: &Names,
    out: &mut [Item],
    findings: &mut Findings,
) -> Result<()> {
    for file in files {
        let c = &file.columns;
        let mut wanted = vec![c.item.as_str()];
        wanted.extend(c.title.as_deref());
        let texts_at = wanted.len();
        wanted.extend(c.text.iter().map(String::as_str));
        let attributes_at = wanted.len();
        wanted.extend(c.attributes.iter().map(|(column, ..)| column.as_str()));
        let flags_at = wanted.len();
        wanted.extend(c.flags.iter().map(|(column, _)| column.as_str()));
        file.rows.read(&wanted, findings, &mut |findings, at, cells| {
            let Some(id) = cells[0].text() else {
                return findings.row(
                    at.path,
                    &at.column(&c.item),
                    "empty; every item needs its id",
                );
            };
            let Some(n) = items.find(&id) else { return Ok(()) }; // nobody has it
            let item = &mut out[n as usize];
            if !item.title.is_empty() {
                return Ok(());
            }
            let clean = |text: &str| if c.html { without_html(text) } else { plain(text) };
            if c.title.is_some() {
                item.title = cells[1].text().map(|t| clean(&t)).unwrap_or_default();
            }
            item.attributes.clear();
            for ((_, name, cut), cell) in c.attributes.iter().zip(&cells[attributes_at..flags_at]) {
                let values = cell.texts(*cut);
                let values = values.iter().map(|v| clean(v)).filter(|v| !v.is_empty());
                item.attributes.extend(values.map(|v| (name.clone(), v)));
            }
            for ((value, name), cell) in c.flags.iter().zip(&cells[flags_at..]) {
                if cell.text().as_deref() == Some("1") {
                    item.attributes.push((name.clone(), value.clone()));
                }
            }
            let words = |cell: &Cell| cell.text().map(|t| clean(&t)).unwrap_or_default();
            let all: Vec<String> = cells[texts_at..attributes_at].iter().map(words).collect();
            let all = all.join(" ");
            item.text = all.trim().chars().take(MAX_DESCRIPTION).collect();
            Ok(())
        })?;
    }
    Ok(())
}

/// Titles for items that have none, and the whole text of each.
pub fn finish(items: &mut [Item]) {
    for item in items {
        if item.title.is_empty() {
            item.title = format!("item {}", item.id);
        }
        item.text = compose(&item.title, &item.attributes, &item.text);
    }
}

/// Without tags, entities as characters, spaces as one; a scrap of a page's script is nothing.
fn without_html(text: &str) -> String {
    if text.contains("getTime()") || text.contains("function(") || text.contains("{\n") {
        return String::new(); // 2018's titles and prices hold such scraps of JavaScript and CSS
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        out.push_str(&rest[..open]);
        let tag = &rest[open..];
        let named = tag[1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!');
        match tag.find('>').filter(|_| named) {
            Some(close) => {
                out.push(' ');
                rest = &tag[close + 1..];
            }
            None => {
                out.push('<');
                rest = &tag[1..];
            }
        }
    }
    out.push_str(rest);
    plain(&out).split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shops_leave_html_in_their_words() {
        assert_eq!(
            without_html("<span id=\"t\">Soap &amp;\n Water</span><br/>new"),
            "Soap & Water new"
        );
        assert_eq!(without_html("1 < 2 and 3 > 2 <3"), "1 < 2 and 3 > 2 <3");
        assert_eq!(without_html("var aPageStart = (new Date()).getTime();"), "");
    }
}
