//! attention, attention_decode, rope: a recommender's packed training rows (10 to 70 tokens), prompts
//! of one length, beams over short and long prompts; head counts and sizes of small decoders.

use super::harness::{Call, Case};
use engine::Tensor;
use engine::ops::{attention, attention_decode, rope};
use engine::testing::{below, distance, normal, poison, wide};

/// Query heads, kv heads, head size.
type Heads = (usize, usize, usize);

/// Every case of the three families.
pub fn cases() -> Vec<Case> {
    let packed: Vec<u32> = (0..16).map(|i| 10 + i * 37 % 60).collect();
    let lengths = [
        ("packed", packed.clone(), (6, 6, 64)),
        ("packed_gqa", packed.clone(), (9, 3, 64)),
        ("packed_d32", packed, (4, 4, 32)),
        ("t10", vec![10; 32], (6, 6, 64)),
        ("t64", vec![64; 8], (4, 4, 64)),
        ("t150", vec![150; 2], (8, 8, 64)),
        ("b8h8s256_d32", vec![256; 8], (8, 8, 32)),
        ("b8h9kv3s256", vec![256; 8], (9, 3, 64)),
        ("b4h14s512", vec![512; 4], (14, 14, 64)),
        ("t512", vec![512], (3, 1, 64)),
        ("t512_d128", vec![512], (2, 1, 128)),
    ];
    let mut cases = Vec::new();
    for (name, lengths, heads) in lengths {
        let (spec, segments) = (attention_spec(heads), attention::Segments::packed(&lengths));
        let (forward, backward) = (spec.work(&segments), spec.work_backward(&segments));
        let again = segments.clone();
        let name = format!("attention/{name}");
        cases.push(Case::new(&name, forward, move || training(spec, segments, false)));
        cases.push(Case::new(name + "_backward", backward, move || training(spec, again, true)));
    }
    for (name, requests, keys, heads, steps) in [
        ("b8_w50_s50", 8, 50, (6, 6, 64), 3),
        ("b8_w50_s50_gqa", 8, 50, (9, 3, 64), 3),
        ("b8_w50_s50_d32", 8, 50, (4, 4, 32), 1),
        ("b1_w50_s500_gqa", 1, 500, (9, 3, 64), 3),
    ] {
        let attention::Spec { heads, kv_heads, head_dim, scale } = attention_spec(heads);
        let spec = attention_decode::Spec { heads, kv_heads, head_dim, scale, beams: 50, steps };
        let prompt: Vec<u32> = (0..=requests).map(|b| b * keys).collect();
        let work = spec.work(&prompt);
        let name = format!("attention_decode/{name}");
        cases.push(Case::new(name, work, move || beams(spec, prompt)));
    }
    let spec = rope::Spec { tokens: 4096, heads: 9, head_dim: 64, theta: 1e4 };
    cases.push(Case::new("rope/t4096_h9_d64", spec.work(), move || rotation(spec)));
    cases
}

fn attention_spec((heads, kv_heads, head_dim): Heads) -> attention::Spec {
    attention::Spec { heads, kv_heads, head_dim, scale: 1.0 / (head_dim as f32).sqrt() }
}

fn tensor(x: Vec<f32>) -> Tensor {
    Tensor::from_f32(&[x.len()], x)
}

/// A loose bound that a wrong kernel cannot meet; the tests hold the tight one.
fn near(name: &str, y: &Tensor, truth: &[f64]) -> Result<(), String> {
    let off = distance(y.f32().map_err(|e| e.to_string())?, truth);
    if off < 1e-3 { Ok(()) } else { Err(format!("{name} is off by {off:e}")) }
}

fn training(spec: attention::Spec, at: attention::Segments, back: bool) -> Result<Call, String> {
    let (nq, nk) =
        (at.queries() * spec.heads * spec.head_dim, at.keys() * spec.kv_heads * spec.head_dim);
    let [q, k, v, d_o] = [(1, nq), (2, nk), (3, nk), (4, nq)].map(|(seed, n)| normal(seed, n, 1.0));
    let [wq, wk, wv, wd] = [&q, &k, &v, &d_o].map(|x| wide(x));
    let (mut wo, mut wl) = (vec![0.0; nq], vec![0.0; at.queries() * spec.heads]);
    attention::reference::forward(&spec, &at, &wq, &wk, &wv, &mut wo, &mut wl);

    let (mut o, mut lse) = (tensor(poison(nq)), tensor(poison(wl.len())));
    let [q, k, v, d_o] = [q, k, v, d_o].map(tensor);
    let say = |e: engine::Error| e.to_string();
    attention::forward(&spec, &at, &q, &k, &v, &mut o, &mut lse).map_err(say)?;
    near("o", &o, &wo)?;
    near("lse", &lse, &wl)?;
    if !back {
        return Ok(Box::new(move || {
            attention::forward(&spec, &at, &q, &k, &v, &mut o, &mut lse).expect("ran before");
        }));
    }
    let [mut dq, mut dk, mut dv] = [nq, nk, nk].map(|n| tensor(poison(n)));
    let (mut tq, mut tk, mut tv) = (vec![0.0; nq], vec![0.0; nk], vec![0.0; nk]);
    attention::reference::backward(
        &spec, &at, &wq, &wk, &wv, &wo, &wl, &wd, &mut tq, &mut tk, &mut tv,
    );
    let run = attention::backward;
    run(&spec, &at, &q, &k, &v, &o, &lse, &d_o, &mut dq, &mut dk, &mut dv).map_err(say)?;
    near("dq", &dq, &tq)?;
    near("dk", &dk, &tk)?;
    near("dv", &dv, &tv)?;
    Ok(Box::new(move || {
        run(&spec, &at, &q, &k, &v, &o, &lse, &d_o, &mut dq, &mut dk, &mut dv).expect("ran before");
    }))
}

fn beams(spec: attention_decode::Spec, prompt: Vec<u32>) -> Result<Call, String> {
    let attention_decode::Spec { heads, kv_heads, head_dim, beams: w, steps, .. } = spec;
    let (rows, keys) = ((prompt.len() - 1) * w, prompt[prompt.len() - 1] as usize);
    let width = kv_heads * head_dim;
    let q = normal(1, rows * heads * head_dim, 1.0);
    let [pk, pv] = [2, 3].map(|seed| normal(seed, keys * width, 1.0));
    let [sk, sv] = [4, 5].map(|seed| normal(seed, steps * rows * width, 1.0));
    // Ancestors stand among the request's own beams.
    let mut path = below(6, rows * steps, w);
    path.iter_mut().enumerate().for_each(|(i, p)| *p += (i / (steps * w) * w) as u32);
    let mut truth = vec![0.0; q.len()];
    let [wq, wpk, wpv, wsk, wsv] = [&q, &pk, &pv, &sk, &sv].map(|x| wide(x));
    attention_decode::reference::forward(
        &spec, &prompt, &wq, &wpk, &wpv, &wsk, &wsv, &path, &mut truth,
    );
    let path = Tensor::from_u32(&[rows, steps], path);
    let prompt = attention_decode::Prompts::from(prompt);
    let mut o = tensor(poison(q.len()));
    let [q, pk, pv, sk, sv] = [q, pk, pv, sk, sv].map(tensor);
    attention_decode::forward(&spec, &prompt, &q, &pk, &pv, &sk, &sv, &path, &mut o)
        .map_err(|e| e.to_string())?;
    near("o", &o, &truth)?;
    Ok(Box::new(move || {
        attention_decode::forward(&spec, &prompt, &q, &pk, &pv, &sk, &sv, &path, &mut o)
            .expect("ran before");
    }))
}

fn rotation(spec: rope::Spec) -> Result<Call, String> {
    let positions: Vec<u32> = (0..spec.tokens as u32).map(|t| t % 300).collect();
    let x = normal(1, spec.tokens * spec.heads * spec.head_dim, 1.0);
    let mut truth = wide(&x);
    rope::reference::forward(&spec, &positions, &mut truth);
    let (positions, mut x) = (Tensor::from_u32(&[spec.tokens], positions), tensor(x));
    rope::forward(&spec, &positions, &mut x).map_err(|e| e.to_string())?;
    near("x", &x, &truth)?;
    Ok(Box::new(move || rope::forward(&spec, &positions, &mut x).expect("ran before")))
}
