//! The smallest writer that makes files which the reader takes, for tests.

/// A metadata value.
#[derive(Debug, Clone)]
pub enum Meta {
    /// u32.
    U32(u32),
    /// f32.
    F32(f32),
    /// UTF-8.
    Text(String),
    /// An array of texts.
    Texts(Vec<String>),
    /// An array of i32.
    I32s(Vec<i32>),
}

/// A tensor: name, sizes outermost first, type number, bytes.
pub type Tensor = (String, Vec<usize>, u32, Vec<u8>);

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

/// A file of version 3 with tensors aligned to 32 bytes.
pub fn file(metadata: &[(&str, Meta)], tensors: &[Tensor]) -> Vec<u8> {
    let mut out = b"GGUF".to_vec();
    out.extend(3u32.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        text(&mut out, key);
        match value {
            Meta::U32(n) => {
                out.extend(4u32.to_le_bytes());
                out.extend(n.to_le_bytes());
            }
            Meta::F32(x) => {
                out.extend(6u32.to_le_bytes());
                out.extend(x.to_le_bytes());
            }
            Meta::Text(s) => {
                out.extend(8u32.to_le_bytes());
                text(&mut out, s);
            }
            Meta::Texts(all) => {
                out.extend([9u32, 8].map(u32::to_le_bytes).concat());
                out.extend((all.len() as u64).to_le_bytes());
                all.iter().for_each(|s| text(&mut out, s));
            }
            Meta::I32s(all) => {
                out.extend([9u32, 5].map(u32::to_le_bytes).concat());
                out.extend((all.len() as u64).to_le_bytes());
                out.extend(all.iter().flat_map(|n| n.to_le_bytes()));
            }
        }
    }
    let mut at = 0usize;
    for (name, shape, kind, bytes) in tensors {
        text(&mut out, name);
        out.extend((shape.len() as u32).to_le_bytes());
        shape.iter().rev().for_each(|&n| out.extend((n as u64).to_le_bytes()));
        out.extend(kind.to_le_bytes());
        out.extend((at as u64).to_le_bytes());
        at = (at + bytes.len()).next_multiple_of(32);
    }
    for (_, _, _, bytes) in tensors {
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(bytes);
    }
    out
}
