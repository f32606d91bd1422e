//! A model from a GGUF file: the sizes from its metadata, the weights under llama.cpp's names. Llama files
//! keep the rows of q and k in pairs of neighbours, as llama.cpp rotates them; they are put back as Hugging
//! Face orders them, halves apart. Elsewhere: the format (`checkpoint::gguf`), the file's tokenizer (`text`).

use super::config::{Architecture, Config};
use super::transformer::Transformer;
use super::weights::{Slot, Weights};
use crate::checkpoint::gguf::{Gguf, Value};
use crate::error::{Error, Result};
use crate::tensor::Tensor;
use std::path::Path;

/// Opens the model in the file `path`. All weights are widened to f32.
///
/// # Errors
/// What [`Gguf::open`] says; metadata that is missing or unknown, a tensor that is missing, of another shape
/// than the metadata ask for, of a type that is not read, or not finite: by name.
pub fn open(path: &Path) -> Result<Transformer> {
    from(&Gguf::open(path)?)
}

/// The model in an open file; errors as [`open`].
///
/// # Errors
/// As [`open`].
pub fn from(file: &Gguf) -> Result<Transformer> {
    let config = config(file)?;
    let permuted = config.architecture == Architecture::Llama;
    let weights = Weights::build(&config, |slot| {
        let name = name(slot);
        let wrong = |problem: String| Error::format(file.path(), format!("tensor {name}"), problem);
        let shape = &file.tensor(&name).ok_or_else(|| wrong("is missing".into()))?.shape;
        if *shape != slot.shape {
            let problem = format!("has shape {shape:?}, the metadata ask for {:?}", slot.shape);
            return Err(wrong(problem));
        }
        let mut values = file.values(&name)?;
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            let problem = format!("element {at} is {}; weights must be finite", values[at]);
            return Err(wrong(problem));
        }
        if permuted && (name.ends_with("attn_q.weight") || name.ends_with("attn_k.weight")) {
            values = halves_apart(&values, config.head_dim, slot.shape[1]);
        }
        Ok(Tensor::from_f32(&slot.shape, values))
    })?;
    Ok(Transformer { config, weights })
}

/// Rows 0, 1, 2, 3 … of each head are first and second member of pair 0, of pair 1 …; they become all
/// first members, then all second ones.
fn halves_apart(x: &[f32], head_dim: usize, width: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(x.len());
    for head in x.chunks(head_dim * width) {
        for member in 0..2 {
            for row in head.chunks(width).skip(member).step_by(2) {
                out.extend_from_slice(row);
            }
        }
    }
    out
}

/// llama.cpp's name of a parameter.
fn name(slot: &Slot) -> String {
    let rest = slot.name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    let Some((layer, part)) = rest else {
        return match slot.name.as_str() {
            "model.embed_tokens.weight" => "token_embd.weight",
            "model.norm.weight" => "output_norm.weight",
            _ => "output.weight",
        }
        .into();
    };
    let (part, kind) = part.rsplit_once('.').unwrap_or((part, "weight"));
    let part = match part {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        _ => "ffn_down",
    };
    format!("blk.{layer}.{part}.{kind}")
}

fn config(file: &Gguf) -> Result<Config> {
    let wrong =
        |key: &str, problem: String| Error::format(file.path(), format!("key {key}"), problem);
    let kind = file.text("general.architecture");
    let kind = kind.ok_or_else(|| wrong("general.architecture", "is missing".into()))?;
    let architecture = match kind {
        "llama" => Architecture::Llama,
        "qwen2" => Architecture::Qwen2,
        "qwen3" => Architecture::Qwen3,
        other => {
            let problem = format!("{other} is not known; known are llama, qwen2, qwen3");
            return Err(wrong("general.architecture", problem));
        }
    };
    let key = |part: &str| format!("{kind}.{part}");
    let size = |part: &str, default: Option<usize>| match (file.get(&key(part)), default) {
        (Some(Value::Unsigned(n)), _) => usize::try_from(n)
            .map_err(|_| wrong(&key(part), format!("is {n}, too large for this machine"))),
        (None, Some(default)) => Ok(default),
        (None, None) => Err(wrong(&key(part), "is missing".into())),
        (Some(other), _) => Err(wrong(&key(part), format!("is {other:?}, not a whole number"))),
    };
    let float = |part: &str, default: f64| match file.get(&key(part)) {
        None => Ok(default),
        Some(Value::Float(x)) => Ok(x),
        Some(Value::Unsigned(n)) => Ok(n as f64),
        Some(other) => Err(wrong(&key(part), format!("is {other:?}, not a number"))),
    };
    match file.text(&key("rope.scaling.type")) {
        None | Some("none") => {}
        Some(other) => {
            let problem = format!("{other} is not known; only files without scaling are read");
            return Err(wrong(&key("rope.scaling.type"), problem));
        }
    }
    if size("expert_count", Some(0))? > 0 {
        return Err(wrong(&key("expert_count"), "mixtures of experts are not read".into()));
    }
    let (hidden, heads) = (size("embedding_length", None)?, size("attention.head_count", None)?);
    let head_dim = size("attention.key_length", Some(hidden / heads.max(1)))?;
    for part in ["attention.value_length", "rope.dimension_count"] {
        let have = size(part, Some(head_dim))?;
        if have != head_dim {
            let problem =
                format!("is {have}; only heads that are rotated whole, of one size, are read");
            return Err(wrong(&key(part), problem));
        }
    }
    let table = file.tensor("token_embd.weight").map(|t| t.shape.clone()).unwrap_or_default();
    let token = |key: &str, default: u32| match file.get(key) {
        Some(Value::Unsigned(n)) => u32::try_from(n).unwrap_or(default),
        _ => default,
    };
    let config = Config {
        architecture,
        vocab_size: table.first().copied().unwrap_or(0),
        hidden_size: hidden,
        intermediate_size: size("feed_forward_length", None)?,
        num_hidden_layers: size("block_count", None)?,
        num_attention_heads: heads,
        num_key_value_heads: size("attention.head_count_kv", Some(heads))?,
        head_dim,
        max_position_embeddings: size("context_length", None)?,
        rms_norm_eps: float("attention.layer_norm_rms_epsilon", 1e-6)? as f32,
        rope_theta: float("rope.freq_base", 1e4)?,
        tie_word_embeddings: file.tensor("output.weight").is_none(),
        bos_token_id: token("tokenizer.ggml.bos_token_id", 1),
        eos_token_id: token("tokenizer.ggml.eos_token_id", 2),
    };
    config.check().map_err(|e| Error::format(file.path(), "metadata", e.to_string()))?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::gguf::write::{self, Meta};
    use crate::model::weights::slots;

    fn small(architecture: Architecture, tied: bool) -> Transformer {
        let config = Config {
            architecture,
            vocab_size: 11,
            hidden_size: 8,
            intermediate_size: 12,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 4,
            max_position_embeddings: 64,
            rms_norm_eps: 1e-5,
            rope_theta: 1e5,
            tie_word_embeddings: tied,
            bos_token_id: 1,
            eos_token_id: 2,
        };
        Transformer { weights: Weights::random(&config, 3, 0.1), config }
    }

    /// The model as llama.cpp's converter writes it, in f32.
    fn written(model: &Transformer) -> Vec<u8> {
        let c = &model.config;
        let kind = match c.architecture {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
        };
        let key = |part: &str| format!("{kind}.{part}");
        let sizes = [
            ("embedding_length", c.hidden_size),
            ("feed_forward_length", c.intermediate_size),
            ("block_count", c.num_hidden_layers),
            ("attention.head_count", c.num_attention_heads),
            ("attention.head_count_kv", c.num_key_value_heads),
            ("context_length", c.max_position_embeddings),
        ];
        let mut metadata = vec![("general.architecture".to_string(), Meta::Text(kind.into()))];
        metadata.extend(sizes.map(|(part, n)| (key(part), Meta::U32(n as u32))));
        metadata.push((key("attention.layer_norm_rms_epsilon"), Meta::F32(c.rms_norm_eps)));
        metadata.push((key("rope.freq_base"), Meta::F32(c.rope_theta as f32)));
        let tensors: Vec<write::Tensor> = slots(c)
            .iter()
            .zip(model.weights.tensors())
            .map(|(slot, t)| {
                let (name, mut x) = (name(slot), t.f32().unwrap().to_vec());
                let rotated = name.ends_with("attn_q.weight") || name.ends_with("attn_k.weight");
                if rotated && c.architecture == Architecture::Llama {
                    let (d, w) = (c.head_dim, slot.shape[1]);
                    for head in x.chunks_mut(d * w) {
                        let apart = head.to_vec();
                        for (row, to) in head.chunks_mut(w).enumerate() {
                            let from = (row % 2 * d / 2 + row / 2) * w;
                            to.copy_from_slice(&apart[from..from + w]);
                        }
                    }
                }
                let bytes = x.iter().flat_map(|v| v.to_le_bytes()).collect();
                (name, slot.shape.clone(), 0, bytes)
            })
            .collect();
        let metadata: Vec<(&str, Meta)> =
            metadata.iter().map(|(k, v)| (k.as_str(), v.clone())).collect();
        write::file(&metadata, &tensors)
    }

    #[test]
    fn every_family_comes_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        for (architecture, tied) in
            [(Architecture::Llama, true), (Architecture::Qwen2, false), (Architecture::Qwen3, true)]
        {
            let model = small(architecture, tied);
            std::fs::write(&path, written(&model)).unwrap();
            let back = open(&path).unwrap();
            assert_eq!(back.config, model.config);
            for (a, b) in back.weights.tensors().zip(model.weights.tensors()) {
                assert_eq!(a.f32().unwrap(), b.f32().unwrap(), "{architecture:?}");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.gguf");
        let said = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            open(&path).unwrap_err().to_string()
        };
        let metadata = |kind: &str| [("general.architecture", Meta::Text(kind.into()))];
        assert!(
            said(&write::file(&metadata("gemma3"), &[])).contains("known are llama, qwen2, qwen3")
        );
        assert!(
            said(&write::file(&metadata("llama"), &[]))
                .contains("llama.embedding_length: is missing")
        );
        let mut model = small(Architecture::Qwen2, true);
        model.config.intermediate_size = 16;
        model.weights = Weights::random(&model.config, 3, 0.1);
        let mut file = written(&model);
        let at =
            file.windows(24).position(|w| w.ends_with(b"feed_forward_length")).unwrap() + 24 + 4;
        assert_eq!(file[at], 16);
        file[at] = 12;
        assert!(said(&file).contains("tensor blk.0.ffn_gate.weight: has shape [16, 8]"));
    }
}
