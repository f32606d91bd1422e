//! attention_decode: shared prompts and paths against rows that gather their own keys, in f64.

use engine::Tensor;
use engine::ops::attention_decode::{Prompts, Spec, forward, reference};
use engine::testing::{assert_parity, below, normal, poison, wide};

#[derive(Debug, Clone)]
struct Case {
    spec: Spec,
    prompt: Vec<u32>,
    sharpness: f32,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (heads, kv_heads) in [(2, 2), (3, 1), (40, 1)] {
        for head_dim in [8, 16, 20, 64, 128] {
            if heads == 40 && head_dim > 20 {
                continue; // the tile larger than usual needs no wide heads to show itself
            }
            for (beams, steps) in [(1, 1), (3, 4), (50, 3)] {
                let scale = 1.0 / (head_dim as f32).sqrt();
                let spec = Spec { heads, kv_heads, head_dim, scale, beams, steps };
                // Prompts of 1, 64, none, 17, 33 + 64 tokens and no request at all.
                for prompt in [vec![0, 1, 65, 65, 82, 179], vec![0]] {
                    cases.push(Case { spec, prompt, sharpness: 1.0 });
                }
            }
        }
    }
    let spec = Spec { heads: 2, kv_heads: 1, head_dim: 64, scale: 0.125, beams: 140, steps: 2 };
    for sharpness in [1.0, 20.0] {
        cases.push(Case { spec, prompt: vec![0, 257], sharpness });
    }
    cases.push(Case { spec: Spec { steps: 0, ..spec }, prompt: vec![0, 9], sharpness: 1.0 });
    cases.push(Case { spec: Spec { beams: 0, ..spec }, prompt: vec![0, 9], sharpness: 1.0 });
    cases
}

struct Inputs {
    q: Vec<f32>,
    prompt: [Vec<f32>; 2],
    suffix: [Vec<f32>; 2],
    path: Vec<u32>,
}

impl Case {
    fn inputs(&self) -> Inputs {
        let Spec { heads, kv_heads, head_dim, beams, steps, .. } = self.spec;
        let rows = (self.prompt.len() - 1) * beams;
        let keys = *self.prompt.last().unwrap() as usize;
        let kv = |seed, tokens: usize| normal(seed, tokens * kv_heads * head_dim, 1.0);
        // A slab more than in use, as a cache for more steps has.
        let slabs = (steps + 1) * rows;
        Inputs {
            q: normal(1, rows * heads * head_dim, self.sharpness),
            prompt: [kv(2, keys), kv(3, keys)],
            suffix: [kv(4, slabs), kv(5, slabs)],
            path: if rows > 0 { below(6, rows * steps, rows) } else { Vec::new() },
        }
    }
}

fn tensor(x: &[f32]) -> Tensor {
    Tensor::from_f32(&[x.len()], x.to_vec())
}

fn fast(case: &Case, x: &Inputs) -> engine::Result<Vec<f32>> {
    let mut o = tensor(&poison(x.q.len()));
    let [[k, v], [sk, sv]] = [&x.prompt, &x.suffix].map(|kv| [tensor(&kv[0]), tensor(&kv[1])]);
    let path = Tensor::from_u32(&[x.path.len()], x.path.clone());
    let prompts = Prompts::from(case.prompt.clone());
    forward(&case.spec, &prompts, &tensor(&x.q), &k, &v, &sk, &sv, &path, &mut o)?;
    Ok(o.f32()?.to_vec())
}

#[test]
fn shared_prompts_agree_with_the_reference() {
    for case in cases() {
        let x = case.inputs();
        let y = fast(&case, &x).unwrap();
        let Case { spec, prompt, .. } = &case;
        let (mut truth, mut plain) = (vec![0.0; x.q.len()], vec![0.0; x.q.len()]);
        let [k, v, sk, sv] =
            [&x.prompt[0], &x.prompt[1], &x.suffix[0], &x.suffix[1]].map(|x| wide(x));
        reference::forward(spec, prompt, &wide(&x.q), &k, &v, &sk, &sv, &x.path, &mut truth);
        let ([k, v], [sk, sv]) = (&x.prompt, &x.suffix);
        reference::forward(spec, prompt, &x.q, k, v, sk, sv, &x.path, &mut plain);
        assert_parity(&y, &truth, &plain, &case);
    }
}

/// A request's beams have the same bits alone as among others, and on any number of threads.
#[test]
fn bits_depend_on_neither_neighbours_nor_threads() {
    let spec = Spec { heads: 3, kv_heads: 1, head_dim: 20, scale: 0.3, beams: 45, steps: 2 };
    let together = Case { spec, prompt: vec![0, 30, 130, 131], sharpness: 1.0 };
    let mut x = together.inputs();
    x.path.iter_mut().enumerate().for_each(|(i, p)| *p = (i / 90 * 45) as u32 + *p % 45);
    let all = fast(&together, &x).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    assert_eq!(pool.install(|| fast(&together, &x)).unwrap(), all);

    let alone = Case { spec, prompt: vec![0, 100], sharpness: 1.0 };
    let own = 45..90;
    let cut = |x: &[f32], width: usize| x[own.start * width..own.end * width].to_vec();
    let slabs = |x: &[f32]| x.chunks(135 * 20).flat_map(|slab| cut(slab, 20)).collect::<Vec<_>>();
    let x = Inputs {
        q: cut(&x.q, 60),
        prompt: x.prompt.map(|k| k[30 * 20..130 * 20].to_vec()),
        suffix: x.suffix.map(|k| slabs(&k)),
        path: x.path[own.start * 2..own.end * 2].iter().map(|p| p - 45).collect(),
    };
    assert_eq!(fast(&alone, &x).unwrap(), cut(&all, 60));
}

#[test]
fn bad_calls_are_refused() {
    let spec = Spec { heads: 1, kv_heads: 1, head_dim: 4, scale: 0.5, beams: 2, steps: 1 };
    let case = Case { spec, prompt: vec![0, 3], sharpness: 1.0 };
    let refused = |case: &Case, x: &Inputs, word: &str| {
        let error = fast(case, x).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    let good = case.inputs();
    let mut x = case.inputs();
    x.path[1] = 2;
    refused(&case, &x, "row 1, step 0 points at row 2 of 2");
    refused(&Case { prompt: vec![], ..case.clone() }, &good, "ascend from 0");
    refused(&Case { prompt: vec![0, 4], ..case.clone() }, &good, "prompt_k holds 12");
    let empty = Case { spec: Spec { steps: 0, ..spec }, prompt: vec![0, 0], sharpness: 1.0 };
    refused(&empty, &good, "request 0 has no prompt and no suffix");
    let long = Case { spec: Spec { steps: 3, ..spec }, ..case.clone() };
    refused(&long, &good, "suffix_k holds 16 elements where its shape asks for 24");
    let odd = Case { spec: Spec { heads: 3, kv_heads: 2, ..spec }, ..case };
    refused(&odd, &good, "must divide");
}
