//! Free text from a language model, a token at a time: the prompt's keys and values computed once, every token
//! behind it one row. Elsewhere: items under a trie (`beam`), text and tokens (`text`).

use crate::cpu::random::Stream;
use crate::error::{Error, Result};
use crate::model::transformer::Packed;
use crate::model::{PromptCache, SuffixCache, Transformer, Workspace};
use crate::tensor::Tensor;

/// How the next token is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token.
    pub temperature: f32,
    /// Tokens that may be drawn, most likely first; 0 for all.
    pub top_k: usize,
    /// The fewest tokens whose probabilities sum to this much may be drawn (Holtzman et al., 2020); 1 for all.
    pub top_p: f32,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Sampling {
    /// The most likely token.
    fn default() -> Self {
        Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// # Errors
    /// A temperature below zero or not finite, a share outside of (0, 1].
    pub fn check(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            let problem = format!("is {}; give 0 or more", self.temperature);
            return Err(Error::invalid("temperature", problem));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let problem = format!("is {}; give more than 0, at most 1", self.top_p);
            return Err(Error::invalid("top_p", problem));
        }
        Ok(())
    }

    /// Draws from log-probabilities with `uniform` in [0, 1).
    fn draw(&self, log_p: &[f32], uniform: f64) -> u32 {
        let best =
            |a: &u32, b: &u32| log_p[*b as usize].total_cmp(&log_p[*a as usize]).then(a.cmp(b));
        let mut order: Vec<u32> = (0..log_p.len() as u32).collect();
        if self.temperature == 0.0 || self.top_k == 1 {
            return order.into_iter().min_by(best).unwrap_or(0);
        }
        order.sort_unstable_by(best);
        if self.top_k > 0 {
            order.truncate(self.top_k);
        }
        let scaled = |t: u32| {
            (f64::from(log_p[t as usize] - log_p[order[0] as usize]) / f64::from(self.temperature))
                .exp()
        };
        let weights: Vec<f64> = order.iter().map(|&t| scaled(t)).collect();
        let wanted = weights.iter().sum::<f64>() * f64::from(self.top_p);
        let mut sum = 0.0;
        let kept = weights.iter().position(|w| {
            sum += w;
            sum >= wanted
        });
        let kept = kept.map_or(weights.len(), |i| i + 1);
        let mut left = uniform * weights[..kept].iter().sum::<f64>();
        let drawn = weights[..kept].iter().position(|w| {
            left -= w;
            left < 0.0
        });
        order[drawn.unwrap_or(kept - 1)]
    }
}

/// Writes text with one model; reuse it from prompt to prompt.
#[derive(Debug)]
pub struct Generator<'a> {
    model: &'a Transformer,
    ws: Workspace,
    prompt: PromptCache,
    suffix: SuffixCache,
    logits: Tensor,
    /// The one row that the head reads, and the row that each token continues: [1] u32, 0.
    row: Tensor,
}

impl<'a> Generator<'a> {
    /// A generator for `model`, where that lies.
    ///
    /// # Errors
    /// A device without room.
    pub fn new(model: &'a Transformer) -> Result<Self> {
        let on = model.placement();
        Ok(Generator {
            model,
            ws: Workspace::inference(on)?,
            prompt: PromptCache::new(&model.config, on)?,
            suffix: SuffixCache::new(&model.config, on)?,
            logits: on.empty()?,
            row: on.indices(vec![0])?,
        })
    }

    /// The log-probability of every token, [V], behind `prompt`.
    ///
    /// # Errors
    /// An empty prompt, one beyond the context or with a token beyond the vocabulary; logits that are not
    /// numbers; the operators'.
    pub fn next(&mut self, prompt: &[u32]) -> Result<Vec<f32>> {
        let (most, vocab) =
            (self.model.config.max_position_embeddings, self.model.config.vocab_size);
        if prompt.is_empty() || prompt.len() > most {
            let problem = format!("has {} tokens; the model reads 1 to {most}", prompt.len());
            return Err(Error::invalid("prompt", problem));
        }
        if let Some(&t) = prompt.iter().find(|&&t| t as usize >= vocab) {
            let problem = format!("has token {t}; the model's vocabulary ends at {vocab}");
            return Err(Error::invalid("prompt", problem));
        }
        let packed = Packed::new(&[prompt]).on(self.model.placement().device)?;
        self.model.prefill(&packed, &mut self.prompt, &mut self.ws)?;
        self.log_p()
    }

    /// Up to `most` tokens behind `prompt`; `go_on` sees each and ends the text behind it by false.
    ///
    /// # Errors
    /// As [`Generator::next`]; a prompt that leaves no room for `most` tokens.
    pub fn generate(
        &mut self,
        prompt: &[u32],
        most: usize,
        sampling: &Sampling,
        go_on: &mut dyn FnMut(u32) -> Result<bool>,
    ) -> Result<Vec<u32>> {
        sampling.check()?;
        let context = self.model.config.max_position_embeddings;
        if prompt.len().saturating_add(most) > context {
            let problem = format!(
                "has {} tokens, {most} more are asked for, and the model reads {context} in all",
                prompt.len()
            );
            return Err(Error::invalid("prompt", problem));
        }
        let mut out = Vec::new();
        if most == 0 {
            return Ok(out);
        }
        let mut draws = Stream::new(sampling.seed, 0x6e2).reader();
        let mut log_p = self.next(prompt)?;
        self.suffix.reset(&self.model.config, 1, most)?;
        loop {
            let token = sampling.draw(&log_p, draws.f64());
            out.push(token);
            if !go_on(token)? || out.len() == most {
                return Ok(out);
            }
            let token = self.model.placement().indices(vec![token])?;
            self.model.decode(&token, &self.row, &self.prompt, &mut self.suffix, &mut self.ws)?;
            log_p = self.log_p()?;
        }
    }

    /// Of the one row that the last pass left.
    fn log_p(&mut self) -> Result<Vec<f32>> {
        self.model.head_input(&self.row, &mut self.ws)?;
        self.model.logits(self.model.weights.head(), &self.ws, &mut self.logits)?;
        let logits = self.logits.to_f32_vec()?;
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if !most.is_finite() || logits.iter().any(|x| x.is_nan()) {
            let problem = "are not numbers: the weights are damaged, or a format too narrow for them was chosen";
            return Err(Error::invalid("logits", problem));
        }
        let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
        let lse = f64::from(most) + sum.ln();
        Ok(logits.iter().map(|&x| (f64::from(x) - lse) as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Architecture, Config, Weights};

    fn model() -> Transformer {
        let config = Config {
            architecture: Architecture::Llama,
            vocab_size: 40,
            hidden_size: 16,
            intermediate_size: 24,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            head_dim: 8,
            max_position_embeddings: 32,
            rms_norm_eps: 1e-5,
            rope_theta: 1e4,
            tie_word_embeddings: true,
            bos_token_id: 1,
            eos_token_id: 2,
        };
        Transformer { weights: Weights::random(&config, 5, 0.5), config }
    }

    /// Token by token through the cache, and each time the whole text anew: the same tokens.
    #[test]
    fn the_cache_changes_nothing() {
        let model = model();
        let mut generator = Generator::new(&model).unwrap();
        for sampling in
            [Sampling::default(), Sampling { temperature: 0.9, top_k: 12, top_p: 0.8, seed: 3 }]
        {
            let prompt = [1, 7, 9, 30];
            let text = generator.generate(&prompt, 12, &sampling, &mut |_| Ok(true)).unwrap();
            let mut draws = Stream::new(sampling.seed, 0x6e2).reader();
            let mut so_far = prompt.to_vec();
            for &token in &text {
                let log_p = generator.next(&so_far).unwrap();
                assert_eq!(sampling.draw(&log_p, draws.f64()), token);
                so_far.push(token);
            }
            let again = generator.generate(&prompt, 12, &sampling, &mut |_| Ok(true)).unwrap();
            assert_eq!(again, text, "one seed, one text");
            let stop = text[4];
            let at = text.iter().position(|&t| t == stop).unwrap();
            let short = generator.generate(&prompt, 12, &sampling, &mut |t| Ok(t != stop)).unwrap();
            assert_eq!(short, text[..=at]);
        }
        let sum: f64 = generator.next(&[3]).unwrap().iter().map(|&x| f64::from(x).exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6);
        for prompt in [&[][..], &[1; 33], &[40]] {
            assert!(generator.next(prompt).unwrap_err().to_string().contains("prompt"));
        }
        let quiet = &mut |_| Ok(true);
        let said = generator.generate(&[1; 30], 3, &Sampling::default(), quiet).unwrap_err();
        assert!(said.to_string().contains("reads 32 in all"), "{said}");
    }

    #[test]
    fn draws_keep_to_their_limits() {
        let log_p: Vec<f32> = [0.5f32, 0.3, 0.15, 0.05].iter().map(|p| p.ln()).collect();
        let count = |s: Sampling| {
            let mut seen = [0; 4];
            (0..1000).for_each(|i| seen[s.draw(&log_p, f64::from(i) / 1000.0) as usize] += 1);
            seen
        };
        let all = Sampling { temperature: 1.0, ..Sampling::default() };
        let [a, b, c, d] = count(all);
        assert!((499..=501).contains(&a) && (299..=301).contains(&b) && c + d >= 198);
        assert_eq!(count(Sampling { top_k: 2, ..all })[2..], [0, 0]);
        assert_eq!(count(Sampling { top_p: 0.75, ..all })[2..], [0, 0], "0.5 + 0.3 are enough");
        assert_eq!(count(Sampling { temperature: 0.0, ..all }), [1000, 0, 0, 0]);
        assert!(count(Sampling { temperature: 10.0, ..all })[3] > 150);
        assert!(Sampling { top_p: 0.0, ..all }.check().is_err());
        assert!(Sampling { temperature: f32::NAN, ..all }.check().is_err());
    }
}
