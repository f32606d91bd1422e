//! What a search allocates once it has seen its largest request: nothing that grows with the prompt,
//! the model's width or its layers' intermediates. A process of its own, since it counts every allocation.

use engine::decode::BeamSearch;
use engine::model::{Architecture, Config, Transformer, Weights};
use engine::ops::trie_softmax::Normalise;
use engine::sid::{Codes, Trie};
use engine::text::SidTokens;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

struct Counting;

static BYTES: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(layout.size(), Relaxed);
        LARGEST.fetch_max(layout.size(), Relaxed);
        // SAFETY: the caller's contract is that of `System`.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that `f` allocates, and the largest piece.
fn allocated(f: impl FnOnce()) -> (usize, usize) {
    BYTES.store(0, Relaxed);
    LARGEST.store(0, Relaxed);
    f();
    (BYTES.load(Relaxed), LARGEST.load(Relaxed))
}

fn model(vocab_size: usize) -> Transformer {
    let config = Config {
        architecture: Architecture::Llama,
        vocab_size,
        hidden_size: 128,
        intermediate_size: 384,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        max_position_embeddings: 512,
        rms_norm_eps: 1e-6,
        rope_theta: 1e4,
        tie_word_embeddings: true,
        bos_token_id: 1,
        eos_token_id: 2,
    };
    let weights = Weights::random(&config, 5, 0.05);
    Transformer { config, weights }
}

#[test]
fn the_second_search_allocates_next_to_nothing() {
    let sizes = vec![16u32; 3];
    let codes = (0..2000u32).flat_map(|i| [i % 16, i / 16 % 16, i * 7 / 256 % 16]).collect();
    let trie = Trie::build(&Codes::new(sizes.clone(), codes).unwrap()).unwrap();
    let tokens = SidTokens::from_scratch(&sizes);
    let prompt: Vec<u32> = (0..300).map(|i| 3 + i * 5 % 48).collect();
    for int8 in [false, true] {
        let model = model(tokens.vocabulary());
        let model = if int8 { model.quantized() } else { model.packed() }.unwrap();
        let mut search = BeamSearch::new(&model, &trie, &tokens, 50, Normalise::Allowed).unwrap();
        let mut answers = Vec::with_capacity(4);
        let (first, _) = allocated(|| answers.push(search.search(&[&prompt]).unwrap()));
        // One more: threads that slept through the first have not their scratch yet.
        for _ in 0..3 {
            answers.push(search.search(&[&prompt]).unwrap());
        }
        let (steady, largest) = allocated(|| {
            search.search(&[&prompt]).unwrap();
        });
        assert!(answers.windows(2).all(|w| w[0] == w[1]));
        println!("int8 {int8}: first {first} bytes, steady {steady}, largest {largest}");
        assert!(steady < 192 << 10 && largest <= 32 << 10, "{steady} bytes, {largest} at once");
        assert!(steady * 10 < first, "{steady} bytes after {first}");
    }
}
