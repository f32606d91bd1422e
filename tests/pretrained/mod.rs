//! Pretrained language models that become recommenders: `growth`, how their vocabulary takes semantic IDs; `align`, the
//! whole road.

pub mod align;
pub mod growth;

use engine::DType;
use engine::model::{Architecture, Config, Transformer, Weights, folder};
use serde_json::{Value, json};
use std::path::Path;

/// Tokens of the tiny tokenizer below.
pub const TOKENS: u32 = 12;

/// A byte-level BPE over a few letters, with one special token.
pub fn tokenizer() -> Value {
    let tokens = ["a", "b", "c", "Ġ", "ab", "Ġc", "1", "2", "<", ">", "_"];
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, t)| (t.to_string(), json!(id))).collect();
    json!({
        "version": "1.0",
        "added_tokens": [{
            "id": 11, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocabulary, "merges": [["a", "b"], ["Ġ", "c"]],
        },
    })
}

/// A model of `rows` rows, written as a folder.
pub fn folder_of(path: &Path, rows: usize, tied: bool) -> Transformer {
    let config = Config {
        architecture: Architecture::Qwen2,
        vocab_size: rows,
        hidden_size: 8,
        intermediate_size: 12,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 4,
        max_position_embeddings: 64,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        tie_word_embeddings: tied,
        bos_token_id: 11,
        eos_token_id: 11,
    };
    let model = Transformer { weights: Weights::random(&config, 3, 0.4), config };
    folder::save(&model, path, DType::F32).unwrap();
    let config = path.join("config.json");
    let mut json: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    json["of_others"] = json!({"kept": [1, 2]});
    let write =
        |name: &str, json: &Value| std::fs::write(path.join(name), json.to_string()).unwrap();
    write("config.json", &json);
    write("tokenizer.json", &tokenizer());
    write(
        "tokenizer_config.json",
        &json!({"tokenizer_class": "GPT2Tokenizer", "eos_token": "<end>"}),
    );
    write("generation_config.json", &json!({"eos_token_id": 11}));
    model
}
