//! What a model is: Hugging Face's `config.json`, read strictly. A field that would change the
//! mathematics and that this engine does not know is an error, never ignored.

use crate::error::{Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The block families that the stack knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Architecture {
    /// `LlamaForCausalLM`: no biases, no head norms.
    Llama,
    /// `Qwen2ForCausalLM`: biases on q, k and v.
    Qwen2,
    /// `Qwen3ForCausalLM`: RMS norm on each q and k head, head size of its own.
    Qwen3,
}

impl Architecture {
    const ALL: [Architecture; 3] = [Architecture::Llama, Architecture::Qwen2, Architecture::Qwen3];

    /// The name that `config.json` carries under `architectures`.
    pub fn name(self) -> &'static str {
        match self {
            Architecture::Llama => "LlamaForCausalLM",
            Architecture::Qwen2 => "Qwen2ForCausalLM",
            Architecture::Qwen3 => "Qwen3ForCausalLM",
        }
    }

    fn model_type(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
        }
    }
}

/// Sizes and options of a decoder-only stack.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Block family.
    pub architecture: Architecture,
    /// V: rows of the embedding table.
    pub vocab_size: usize,
    /// C: width of the residual stream.
    pub hidden_size: usize,
    /// F: width of the feed-forward.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// H: query heads.
    pub num_attention_heads: usize,
    /// Key/value heads; divides H.
    pub num_key_value_heads: usize,
    /// D: size of a head, even.
    pub head_dim: usize,
    /// Longest context.
    pub max_position_embeddings: usize,
    /// ε of the RMS norms.
    pub rms_norm_eps: f32,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Whether the head is the embedding table.
    pub tie_word_embeddings: bool,
    /// First token of every sequence.
    pub bos_token_id: u32,
    /// Token that ends a sequence.
    pub eos_token_id: u32,
}

impl Config {
    /// Whether q, k and v have biases.
    pub fn qkv_bias(&self) -> bool {
        self.architecture == Architecture::Qwen2
    }

    /// Whether q and k heads are normalised.
    pub fn qk_norm(&self) -> bool {
        self.architecture == Architecture::Qwen3
    }

    /// Width of q: H · D.
    pub fn query_width(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Width of k and of v: Hkv · D.
    pub fn kv_width(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Softmax scale 1 / √D.
    pub fn attention_scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    /// Number of parameters, the tied head counted once.
    pub fn parameters(&self) -> u64 {
        let (c, f) = (self.hidden_size as u64, self.intermediate_size as u64);
        let (q, kv) = (self.query_width() as u64, self.kv_width() as u64);
        let bias = if self.qkv_bias() { q + 2 * kv } else { 0 };
        let norms = if self.qk_norm() { 2 * self.head_dim as u64 } else { 0 };
        let layer = 2 * c + c * (q + 2 * kv) + q * c + 3 * c * f + bias + norms;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        layer * self.num_hidden_layers as u64 + tables * self.vocab_size as u64 * c + c
    }

    /// Checks that the sizes fit each other and stay within what indices can address.
    ///
    /// # Errors
    /// [`Error::Invalid`] naming the key, its value and the mend.
    pub fn check(&self) -> Result<()> {
        let bad =
            |key: &str, problem: String| Err(Error::invalid(format!("model: {key}"), problem));
        for (key, n, most) in [
            ("vocab_size", self.vocab_size, 1 << 24),
            ("hidden_size", self.hidden_size, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 10),
            ("head_dim", self.head_dim, 1 << 10),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 24),
        ] {
            if n == 0 || n > most {
                return bad(key, format!("is {n}; it must lie between 1 and {most}"));
            }
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return bad(
                "num_key_value_heads",
                format!(
                    "is {}, which does not divide num_attention_heads = {}",
                    self.num_key_value_heads, self.num_attention_heads
                ),
            );
        }
        if !self.head_dim.is_multiple_of(2) {
            return bad(
                "head_dim",
                format!("is {}; rotary embedding needs an even size", self.head_dim),
            );
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 1.0) {
            return bad(
                "rms_norm_eps",
                format!("is {}; it must lie between 0 and 1", self.rms_norm_eps),
            );
        }
        if !(self.rope_theta > 1.0 && self.rope_theta.is_finite()) {
            return bad(
                "rope_theta",
                format!("is {}; it must be finite and above 1", self.rope_theta),
            );
        }
        Ok(())
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Format`] naming the key: unknown architectures, activations,
    /// rotary scalings and contradictory sizes are refused.
    pub fn read(path: &Path) -> Result<Config> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        let value: Value = serde_json::from_str(&text).map_err(|e| {
            Error::format(path, format!("line {}, column {}", e.line(), e.column()), e.to_string())
        })?;
        let Value::Object(map) = value else {
            return Err(Error::format(path, "top level", "is not a JSON object"));
        };
        Config::parse(&map, path)
    }

    fn parse(map: &Map<String, Value>, path: &Path) -> Result<Config> {
        let bad = |key: &str, problem: String| Error::format(path, format!("key {key}"), problem);
        let size = |key: &str| -> Result<usize> {
            let v = map.get(key).ok_or_else(|| bad(key, "is missing".into()))?;
            let n = v.as_u64().ok_or_else(|| bad(key, format!("is {v}, not a whole number")))?;
            usize::try_from(n).map_err(|_| bad(key, format!("is {n}, too large for this machine")))
        };
        let or_size = |key: &str, default: usize| match map.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(_) => size(key),
        };
        let name = map
            .get("architectures")
            .and_then(|v| v.get(0))
            .and_then(Value::as_str)
            .ok_or_else(|| bad("architectures", "is missing or not a list of names".into()))?;
        let known = Architecture::ALL.map(Architecture::name);
        let architecture =
            *Architecture::ALL.iter().find(|a| a.name() == name).ok_or_else(|| {
                bad("architectures", format!("{name} is not known; known are {}", known.join(", ")))
            })?;

        match map.get("hidden_act").and_then(Value::as_str) {
            None | Some("silu") => {}
            Some(other) => {
                return Err(bad("hidden_act", format!("{other} is not known; known is silu")));
            }
        }
        for key in ["attention_bias", "mlp_bias", "use_sliding_window"] {
            // Qwen2's biases on q, k, v belong to the architecture and are not declared.
            if map.get(key).and_then(Value::as_bool) == Some(true) {
                return Err(bad(key, "true is not supported".into()));
            }
        }
        let rope = rope_theta(map, path)?;
        let heads = size("num_attention_heads")?;
        let hidden = size("hidden_size")?;
        let token = |key: &str, default: u32| match map.get(key) {
            Some(Value::Number(n)) => {
                n.as_u64().and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
            }
            Some(Value::Array(list)) => {
                list.first().and_then(Value::as_u64).map_or(default, |n| n as u32)
            }
            _ => default,
        };
        let config = Config {
            architecture,
            vocab_size: size("vocab_size")?,
            hidden_size: hidden,
            intermediate_size: size("intermediate_size")?,
            num_hidden_layers: size("num_hidden_layers")?,
            num_attention_heads: heads,
            num_key_value_heads: or_size("num_key_value_heads", heads)?,
            head_dim: or_size("head_dim", hidden / heads.max(1))?,
            max_position_embeddings: or_size("max_position_embeddings", 2048)?,
            rms_norm_eps: match map.get("rms_norm_eps") {
                None | Some(Value::Null) => 1e-6,
                Some(v) => v
                    .as_f64()
                    .ok_or_else(|| bad("rms_norm_eps", format!("is {v}, not a number")))?,
            } as f32,
            rope_theta: rope,
            tie_word_embeddings: match map.get("tie_word_embeddings") {
                None | Some(Value::Null) => false,
                Some(v) => v.as_bool().ok_or_else(|| {
                    bad("tie_word_embeddings", format!("is {v}, not true or false"))
                })?,
            },
            bos_token_id: token("bos_token_id", 1),
            eos_token_id: token("eos_token_id", 2),
        };
        config.check().map_err(|e| Error::format(path, "sizes", e.to_string()))?;
        Ok(config)
    }

    /// The JSON that transformers reads.
    pub fn to_json(&self, dtype: crate::DType) -> Value {
        let dtype = match dtype {
            crate::DType::Bf16 => "bfloat16",
            _ => "float32",
        };
        json!({
            "architectures": [self.architecture.name()],
            "model_type": self.architecture.model_type(),
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "max_position_embeddings": self.max_position_embeddings,
            "rms_norm_eps": shortest(self.rms_norm_eps),
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": self.rope_theta},
            "attention_bias": false,
            "mlp_bias": false,
            "tie_word_embeddings": self.tie_word_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "pad_token_id": 0,
            "use_cache": true,
            "dtype": dtype,
            "torch_dtype": dtype,
        })
    }
}

/// The f64 whose shortest decimal form is that of `x`: 1e-6 stays 1e-6 in the file.
fn shortest(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

/// θ from `rope_theta` or, as transformers 5 writes it, `rope_parameters.rope_theta`.
fn rope_theta(map: &Map<String, Value>, path: &Path) -> Result<f64> {
    for key in ["rope_scaling", "rope_parameters"] {
        let kind = map.get(key).and_then(|r| r.get("rope_type").or_else(|| r.get("type")));
        match kind.and_then(Value::as_str) {
            None | Some("default") => {}
            Some(other) => {
                return Err(Error::format(
                    path,
                    format!("key {key}"),
                    format!("rotary scaling {other} is not supported; known is default"),
                ));
            }
        }
    }
    let theta = map.get("rope_theta").or_else(|| map.get("rope_parameters")?.get("rope_theta"));
    match theta {
        None | Some(Value::Null) => Ok(10_000.0),
        Some(v) => v
            .as_f64()
            .ok_or_else(|| Error::format(path, "key rope_theta", format!("is {v}, not a number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Config {
        Config {
            architecture: Architecture::Qwen3,
            vocab_size: 100,
            hidden_size: 32,
            intermediate_size: 64,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 16,
            max_position_embeddings: 128,
            rms_norm_eps: 1e-6,
            rope_theta: 10_000.0,
            tie_word_embeddings: true,
            bos_token_id: 1,
            eos_token_id: 2,
        }
    }

    fn written(json: &Value) -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, json.to_string()).unwrap();
        (folder, path)
    }

    #[test]
    fn round_trip() {
        let (_folder, path) = written(&small().to_json(crate::DType::F32));
        assert_eq!(Config::read(&path).unwrap(), small());
    }

    #[test]
    fn what_would_change_the_mathematics_is_refused() {
        for (key, value, word) in [
            ("architectures", json!(["GemmaForCausalLM"]), "known are LlamaForCausalLM"),
            ("hidden_act", json!("gelu"), "hidden_act"),
            ("rope_scaling", json!({"rope_type": "yarn"}), "yarn"),
            ("num_key_value_heads", json!(3), "does not divide"),
            ("hidden_size", json!(-4), "not a whole number"),
            ("vocab_size", json!(0), "between 1 and"),
            ("attention_bias", json!(true), "attention_bias"),
        ] {
            let mut json = small().to_json(crate::DType::F32);
            json[key] = value;
            let (_folder, path) = written(&json);
            let text = Config::read(&path).unwrap_err().to_string();
            assert!(text.contains(word) && text.contains("config.json"), "{key}: {text}");
        }
    }
}
