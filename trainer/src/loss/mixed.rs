//! The loss of samples that mix words and semantic IDs: words over the whole vocabulary, IDs over what the trie
//! of their catalogue allows. Each part sees its own rows of the head's input, gathered, and its gradient is put
//! back where they came from.

use super::{Batch, Loss, NextToken, Room, Teaching, TrieLoss};
use engine::model::{Config, Placement, Transformer};
use engine::ops::{convert, embedding};
use engine::{Device, Result, Tensor};
use std::ops::Range;

/// The loss: a trie for each space of semantic IDs, and words.
#[derive(Debug)]
pub struct Mixed<'a> {
    parts: Vec<Part<'a>>,
    on: Placement,
    /// Gradient of the head's input in f32, [R, C], where a branch is narrower.
    wide: Tensor,
}

#[derive(Debug)]
enum Kind<'a> {
    /// IDs whose tokens lie in this range.
    Ids(Range<u32>, Box<TrieLoss<'a>>),
    Words(Box<NextToken>),
}

#[derive(Debug)]
struct Part<'a> {
    kind: Kind<'a>,
    /// Its labels of the batch that was placed.
    own: Batch,
    /// Which rows of the head's input they are of; with room to spare, behind them row 0, to which no gradient
    /// goes since no label stands there.
    rows: Tensor,
    x: Tensor,
    dx: Tensor,
}

impl<'a> Mixed<'a> {
    /// Words with label smoothing `smoothing`, and IDs by `tries`, each with the range of its tokens.
    ///
    /// # Errors
    /// A device that cannot be opened.
    pub fn new(
        tries: Vec<(Range<u32>, TrieLoss<'a>)>,
        smoothing: f32,
        on: Placement,
    ) -> Result<Mixed<'a>> {
        let ids = tries.into_iter().map(|(range, trie)| Kind::Ids(range, Box::new(trie)));
        let kinds = ids.chain([Kind::Words(Box::new(NextToken::new(smoothing, on)?))]);
        let part = |kind| {
            Ok(Part {
                kind,
                own: Batch::new(&[]),
                rows: on.empty_indices()?,
                x: on.empty_branch()?,
                dx: on.empty_branch()?,
            })
        };
        Ok(Mixed { parts: kinds.map(part).collect::<Result<_>>()?, on, wide: on.empty()? })
    }
}

impl<'a> Part<'a> {
    fn takes(&self, label: u32) -> bool {
        match &self.kind {
            Kind::Ids(range, _) => range.contains(&label),
            Kind::Words(_) => true, // the last part: what is left
        }
    }

    fn loss(&self) -> &(dyn Loss + 'a) {
        match &self.kind {
            Kind::Ids(_, trie) => trie.as_ref(),
            Kind::Words(words) => words.as_ref(),
        }
    }

    /// Whether a pass runs over it: a captured one always does.
    fn runs(&self) -> bool {
        !self.rows.is_empty()
    }

    /// Takes over its labels of `batch`, those at `picked`.
    fn place(
        &mut self,
        config: &Config,
        batch: &Batch,
        mut picked: Vec<u32>,
        on: Placement,
    ) -> Result<()> {
        let next: Vec<u32> = picked.iter().map(|&r| batch.next[r as usize]).collect();
        let mut teaching = Teaching::default();
        if matches!(self.kind, Kind::Ids(..)) {
            for &row in &picked {
                let (codes, weights) = batch.teaching.label(row as usize);
                teaching.push(codes.iter().copied().zip(weights.iter().copied()));
            }
        }
        let room = batch.room().filter(|_| on.device != Device::Cpu);
        if let Some(room) = room {
            picked.resize(room.tokens, 0);
        }
        self.rows.write_u32(&picked)?;
        self.own = Batch::of_labels(next, teaching, room, on.device)?;
        match &mut self.kind {
            Kind::Ids(_, trie) => trie.place(config, &self.own),
            Kind::Words(words) => words.place(config, &self.own),
        }
    }
}

impl Loss for Mixed<'_> {
    /// Every label may be of any part.
    fn bytes(&self, config: &Config, labels: usize, room: Option<Room>) -> u64 {
        let parts = self.parts.iter().map(|p| p.loss().bytes(config, labels, room));
        let copies = self.on.bytes(0, 2 * labels * config.hidden_size * self.parts.len());
        let wide = if self.on.mixed() { 4 * (labels * config.hidden_size) as u64 } else { 0 };
        parts.fold(copies.saturating_add(wide), u64::saturating_add)
    }

    fn place(&mut self, config: &Config, batch: &Batch) -> Result<()> {
        let mut picked = vec![Vec::new(); self.parts.len()];
        for (row, &label) in batch.next.iter().enumerate() {
            let part = self.parts.iter().position(|p| p.takes(label));
            picked[part.expect("words take what is left")].push(row as u32);
        }
        let on = self.on;
        let mut parts = self.parts.iter_mut().zip(picked);
        parts.try_for_each(|(part, picked)| part.place(config, batch, picked, on))
    }

    fn at_head(
        &mut self,
        model: &Transformer,
        batch: &Batch,
        scale: f32,
        normed: &Tensor,
        dnormed: &mut Tensor,
        dhead: &mut Tensor,
    ) -> Result<()> {
        let (all, c) = (batch.rows.len(), model.config.hidden_size);
        // Rows are scattered into f32; a narrower gradient is rounded from it once.
        let mixed = self.on.mixed();
        let sum = if mixed { &mut self.wide } else { &mut *dnormed };
        sum.try_resize(&[all, c])?;
        sum.zero()?;
        for part in self.parts.iter_mut().filter(|p| p.runs()) {
            let Part { kind, own, rows, x, dx } = part;
            let n = rows.len();
            x.try_resize(&[n, c])?;
            dx.try_resize(&[n, c])?;
            let pick = embedding::Spec { tokens: n, vocab: all, width: c };
            embedding::forward(&pick, normed, rows, x)?;
            match kind {
                Kind::Ids(_, trie) => trie.at_head(model, own, scale, x, dx, dhead)?,
                Kind::Words(words) => words.at_head(model, own, scale, x, dx, dhead)?,
            }
            embedding::backward(&pick, rows, dx, sum)?;
        }
        if mixed { convert::forward(&self.wide, dnormed) } else { Ok(()) }
    }

    fn each_loss<'a>(&'a self, visit: &mut dyn FnMut(&'a Tensor)) {
        self.parts.iter().filter(|p| p.runs()).for_each(|p| p.loss().each_loss(visit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backward::Gradients;
    use crate::loss::{Sample, forward_backward};
    use engine::model::{Architecture, Weights, Workspace};
    use engine::sid::{Codes, Trie};
    use engine::text::{SidTokens, Spelling};

    fn model() -> Transformer {
        let config = Config {
            architecture: Architecture::Llama,
            vocab_size: 30,
            hidden_size: 8,
            intermediate_size: 12,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 2,
            head_dim: 4,
            max_position_embeddings: 32,
            rms_norm_eps: 1e-6,
            rope_theta: 1e4,
            tie_word_embeddings: true,
            bos_token_id: 1,
            eos_token_id: 2,
        };
        Transformer { weights: Weights::random(&config, 1, 0.5), config }
    }

    /// Loss and gradients of two samples are the sums of each alone under its own loss.
    #[test]
    fn words_and_ids_add_up() {
        let model = model();
        let codes = Codes::new(vec![2, 3], vec![0, 0, 0, 2, 1, 1]).unwrap();
        let trie = Trie::build(&codes).unwrap();
        let tokens = SidTokens::behind(20, &[2, 3], Spelling::default(), 1, 2);
        let on = Placement::CPU;
        let ids = || TrieLoss::new(&trie, &tokens, 0.0, on).unwrap();
        let sample = |tokens: &[u32], learn_from| Sample {
            tokens: tokens.to_vec(),
            learn_from,
            ..Sample::default()
        };
        // Words then an ID, an ID alone, words alone.
        let (a, b) = (sample(&[1, 5, 6, 7, 20, 24], 2), sample(&[1, 9, 21, 23], 2));
        let run = |loss: &mut dyn Loss, samples: &[Sample]| {
            let mut ws = Workspace::training(&model.config, on).unwrap();
            let mut g = Gradients::new(&model.config, on).unwrap();
            let batch = Batch::new(samples);
            let l = forward_backward(loss, &model, &batch, 0.5, None, &mut ws, &mut g).unwrap();
            let all: Vec<f32> =
                g.weights.tensors().flat_map(|t| t.f32().unwrap()).copied().collect();
            (l, all)
        };
        let mut mixed = Mixed::new(vec![(tokens.rows(), ids())], 0.0, on).unwrap();
        let got = run(&mut mixed, &[a.clone(), b.clone()]);
        // The same, each kind of label by its own loss: the ID of `a` is learned behind its words.
        let words = sample(&a.tokens[..4], 2);
        let id = sample(&a.tokens, 4);
        let parts =
            [run(&mut NextToken::new(0.0, on).unwrap(), &[words]), run(&mut ids(), &[id, b])];
        let loss: f64 = parts.iter().map(|p| p.0).sum();
        assert!((got.0 - loss).abs() < 1e-5 * loss, "{} {loss}", got.0);
        for (i, g) in got.1.iter().enumerate() {
            let want = parts[0].1[i] + parts[1].1[i];
            assert!((g - want).abs() < 1e-4 * (1.0 + want.abs()), "{i}: {g} {want}");
        }
        // A batch without words does not count those of the one before.
        let only = run(&mut mixed, &[sample(&[1, 9, 21, 23], 2)]);
        let alone = run(&mut ids(), &[sample(&[1, 9, 21, 23], 2)]);
        assert!((only.0 - alone.0).abs() < 1e-6);
    }
}
