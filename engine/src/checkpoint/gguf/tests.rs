use super::write::{Meta, file};
use super::*;

fn opened(bytes: &[u8]) -> Result<Gguf> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.gguf");
    std::fs::write(&path, bytes).unwrap();
    Gguf::open(&path)
}

fn small() -> Vec<u8> {
    let f32s = [1.5f32, -2.0, 0.0, 3.0, 4.0, 5.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let halves = [0.5f32, -1.0].iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
    let brief = [2.0f32, 8.0].iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect();
    let mut block = f16::from_f32(0.25).to_le_bytes().to_vec();
    block.extend((0..32).map(|i| (i - 16) as i8 as u8));
    file(
        &[
            ("general.architecture", Meta::Text("llama".into())),
            ("llama.block_count", Meta::U32(2)),
            ("llama.eps", Meta::F32(0.5)),
            ("tokens", Meta::Texts(vec!["a".into(), "é".into(), String::new()])),
            ("types", Meta::I32s(vec![1, 3, 3])),
        ],
        &[
            ("a".into(), vec![2, 3], 0, f32s),
            ("b".into(), vec![2], 1, halves),
            ("c".into(), vec![2], 30, brief),
            ("d".into(), vec![1, 32], 8, block),
            ("e".into(), vec![1, 256], 12, vec![0; 144]),
        ],
    )
}

#[test]
fn what_was_written_is_read() {
    let g = opened(&small()).unwrap();
    assert_eq!(g.text("general.architecture"), Some("llama"));
    assert_eq!(g.get("llama.block_count"), Some(Value::Unsigned(2)));
    assert_eq!(g.get("llama.eps"), Some(Value::Float(0.5)));
    assert_eq!(g.texts("tokens").unwrap(), ["a", "é", ""]);
    assert_eq!(g.numbers("types"), Some(vec![1, 3, 3]));
    assert_eq!(g.tensor("a").unwrap().shape, [2, 3]);
    assert_eq!(g.values("a").unwrap(), [1.5, -2.0, 0.0, 3.0, 4.0, 5.0]);
    assert_eq!(g.values("b").unwrap(), [0.5, -1.0]);
    assert_eq!(g.values("c").unwrap(), [2.0, 8.0]);
    let d: Vec<f32> = (0..32).map(|i| 0.25 * (i - 16) as f32).collect();
    assert_eq!(g.values("d").unwrap(), d);
    let said = g.values("e").unwrap_err().to_string();
    assert!(said.contains("tensor e") && said.contains("Q4_K"), "{said}");
    assert!(g.values("f").unwrap_err().to_string().contains("tensor f: is missing"));
    assert!(g.texts("types").is_err());
}

/// Every cut of the file is refused or leaves out the tail of a tensor of an unread type alone.
#[test]
fn cuts_and_flips_never_panic() {
    let whole = small();
    let data = whole.len() - 144;
    for n in 0..data {
        let said = opened(&whole[..n]).expect_err("cut short").to_string();
        assert!(said.contains("offset"), "{n}: {said}");
    }
    for i in 0..whole.len() {
        for bit in [0, 3, 7] {
            let mut bad = whole.clone();
            bad[i] ^= 1 << bit;
            if let Ok(g) = opened(&bad) {
                for name in g.names().map(str::to_string).collect::<Vec<_>>() {
                    let _ = g.values(&name);
                }
                let _ = (g.texts("tokens"), g.numbers("types"));
            }
        }
    }
}

#[test]
fn lies_are_named() {
    let lie = |at: usize, n: u64| {
        let mut bad = small();
        bad[at..at + 8].copy_from_slice(&n.to_le_bytes());
        opened(&bad).unwrap_err().to_string()
    };
    assert!(lie(8, u64::MAX).contains("tensors are announced"));
    assert!(lie(16, 1 << 40).contains("metadata keys are announced"));
    assert!(lie(24, u64::MAX).contains("bytes of a text are announced"));
    assert!(opened(b"GGML").unwrap_err().to_string().contains("does not begin with GGUF"));
    let mut old = small();
    old[4] = 1;
    assert!(opened(&old).unwrap_err().to_string().contains("version 1 is not read"));
    let long = file(&[], &[("a".into(), vec![1 << 40, 1 << 40], 0, vec![0; 8])]);
    assert!(opened(&long).unwrap_err().to_string().contains("multiply beyond"));
    let ragged = file(&[], &[("a".into(), vec![2, 33], 8, vec![0; 68])]);
    assert!(opened(&ragged).unwrap_err().to_string().contains("whole blocks of 32"));
    let twice = file(&[("k", Meta::U32(1)), ("k", Meta::U32(2))], &[]);
    assert!(opened(&twice).unwrap_err().to_string().contains("key k stands twice"));
}
