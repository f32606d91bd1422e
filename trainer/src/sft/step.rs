//! One step: forward and backward of its packed batches, the optimiser, and what is done where the
//! numbers are not what they should be.

use super::TrainRecipe;
use super::state::Position;
use crate::backward::Gradients;
use crate::error::{Error, Result};
use crate::loss::{self, Batch, Loss, Sample};
use crate::observe::{Event, Observer, Training};
use crate::optim::{AdamW, Schedule};
use engine::cpu::random::Stream;
use engine::model::block::Dropout;
use engine::model::{Transformer, Workspace};

/// Streams of the run's seed for dropout; the low half numbers the packed batch.
const STREAM_DROPOUT: u64 = 0x5f72 << 32;

/// Steps in a row without a finite gradient after which a run stops.
const NOT_FINITE_IN_A_ROW: u32 = 3;

/// A run in memory.
pub(super) struct Run<'a> {
    pub train: &'a TrainRecipe,
    pub seed: u64,
    pub model: Transformer,
    pub ws: Workspace,
    pub gradients: Gradients,
    pub optimiser: AdamW,
    pub loss: Box<dyn Loss + 'a>,
    pub at: Position,
    pub spikes: Spikes,
}

impl Run<'_> {
    /// One optimiser step over a group of packed batches: (sum of losses, labels); (0, 0) for one
    /// that was skipped because loss or gradient were not finite.
    ///
    /// # Errors
    /// The third such step in a row; the operators'.
    pub fn step(
        &mut self,
        group: &[Vec<Sample>],
        schedule: &Schedule,
        observer: &dyn Observer,
    ) -> Result<(f64, usize)> {
        let at = self.at.attempts();
        let device = self.model.placement().device;
        let upload = |samples: &Vec<Sample>| Batch::new(samples).on(device);
        let batches = group.iter().map(upload).collect::<engine::Result<Vec<Batch>>>()?;
        let labels: usize = batches.iter().map(|b| b.rows.len()).sum();
        self.gradients.clear()?;
        let mut loss = 0.0;
        for (i, batch) in batches.iter().enumerate() {
            let place = at * self.train.accumulate as u64 + i as u64;
            let dropout = (self.train.dropout > 0.0).then(|| Dropout {
                p: self.train.dropout as f32,
                stream: Stream::new(self.seed, STREAM_DROPOUT + place),
            });
            let scale = 1.0 / labels as f32;
            loss += loss::forward_backward(
                self.loss.as_mut(),
                &self.model,
                batch,
                scale,
                dropout,
                &mut self.ws,
                &mut self.gradients,
            )?;
            self.at.history.tokens += batch.packed.len() as u64;
        }
        let norm = self.optimiser.norm(&self.gradients.weights)?;
        if !(norm.is_finite() && loss.is_finite()) {
            self.at.history.skipped += 1;
            let told = self.told(loss / labels as f64, schedule);
            observer.trained(&Training { gradient_norm: norm, ..told });
            return self.skip(loss, norm, observer);
        }
        self.at.failures = 0;
        let (weights, gradients) = (&mut self.model.weights, &self.gradients.weights);
        self.optimiser.step(weights, gradients, norm, schedule.at(at))?;
        self.at.history.steps += 1;
        let mean = loss / labels as f64;
        observer.trained(&Training { gradient_norm: norm, ..self.told(mean, schedule) });
        if let Some(usual) = self.spikes.watch(mean) {
            observer.note(&format!(
                "{}: loss {mean:.3} a token, {usual:.3} before: a spike",
                self.place()
            ));
        }
        Ok((loss, labels))
    }

    /// Where training stands after a step.
    pub fn told(&self, loss: f64, schedule: &Schedule) -> Training {
        let step = self.at.attempts();
        Training {
            event: Event::Step,
            step,
            epoch: self.at.epoch + 1,
            loss,
            lr: f64::from(schedule.at(step.saturating_sub(1))),
            gradient_norm: f64::NAN,
            tokens: self.at.history.tokens,
            skipped: self.at.history.skipped,
            valid_ndcg_10: None,
        }
    }

    /// Which step it is, for people: steps and batches counted from 1.
    fn place(&self) -> String {
        format!(
            "step {} (epoch {}, batch {})",
            self.at.attempts(),
            self.at.epoch + 1,
            self.at.group * self.train.accumulate + 1
        )
    }

    /// Weights and moments stay as they are: a step with NaN would spoil them for good.
    fn skip(&mut self, loss: f64, norm: f64, observer: &dyn Observer) -> Result<(f64, usize)> {
        self.at.failures += 1;
        let place = self.place();
        observer.note(&format!("{place}: loss {loss}, gradient norm {norm}: skipped"));
        if self.at.failures < NOT_FINITE_IN_A_ROW {
            return Ok((0.0, 0));
        }
        let problem = format!(
            "is too high: three steps in a row had no finite gradient, the last was {place}; lower it and start \
             anew with --fresh. The last good checkpoint and model stay"
        );
        Err(Error::usage("train.lr", problem))
    }
}

/// Watches for losses far above those before. It only tells, so a resumed run may begin it anew.
#[derive(Debug, Default)]
pub(super) struct Spikes {
    seen: u32,
    mean: f64,
    variance: f64,
}

impl Spikes {
    /// The usual loss, where `loss` lies more than six standard deviations and a fifth above it.
    /// Mean and variance forget with a time constant of 50 steps.
    fn watch(&mut self, loss: f64) -> Option<f64> {
        const FORGET: f64 = 0.02;
        const SETTLED: u32 = 100;
        let (off, usual) = (loss - self.mean, self.mean);
        let spike = self.seen >= SETTLED && off > 6.0 * self.variance.sqrt() && off > 0.2 * usual;
        let rate = FORGET.max(1.0 / f64::from(self.seen + 1));
        self.seen = self.seen.saturating_add(1);
        self.mean += rate * off;
        self.variance += rate * (off * off - self.variance);
        spike.then_some(usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::NextToken;
    use crate::observe::Silent;
    use crate::optim::Decay;
    use crate::sft::ModelRecipe;
    use engine::model::{Placement, Weights};

    #[test]
    fn a_step_that_is_not_finite_changes_nothing_and_the_third_in_a_row_stops() {
        let sizes = ModelRecipe {
            hidden_size: 8,
            layers: 1,
            heads: 2,
            kv_heads: 2,
            ..ModelRecipe::default()
        };
        let config = sizes.config(8).unwrap();
        let train = TrainRecipe::default();
        let mut run = Run {
            train: &train,
            seed: 1,
            ws: Workspace::training(&config, Placement::CPU).unwrap(),
            gradients: Gradients::new(&config, Placement::CPU).unwrap(),
            optimiser: AdamW::new(&config, train.adamw, Placement::CPU).unwrap(),
            loss: Box::new(NextToken::new(0.0, Placement::CPU).unwrap()),
            model: Transformer { weights: Weights::random(&config, 1, 0.02), config },
            at: Position::default(),
            spikes: Spikes::default(),
        };
        let batch = [vec![Sample { tokens: vec![1, 3, 4, 5], learn_from: 1, ..Sample::default() }]];
        let schedule = Schedule { peak: 1e-3, warmup: 0, steps: 9, decay: Decay::Constant };
        let bits = |w: &Weights| -> Vec<u32> {
            w.tensors().flat_map(|t| t.f32().unwrap()).map(|v| v.to_bits()).collect()
        };
        let poison = |run: &mut Run, value: f32| {
            std::mem::replace(&mut run.model.weights.norm.f32_mut().unwrap()[0], value)
        };
        assert_eq!(run.step(&batch, &schedule, &Silent).unwrap().1, 3);
        let sound = poison(&mut run, f32::NAN);
        let before = [&run.model.weights, &run.optimiser.m, &run.optimiser.v].map(bits);
        for failures in [1, 2] {
            assert_eq!(run.step(&batch, &schedule, &Silent).unwrap(), (0.0, 0));
            assert_eq!(run.at.failures, failures);
        }
        poison(&mut run, sound);
        assert_eq!(
            run.step(&batch, &schedule, &Silent).unwrap().1,
            3,
            "two in a row and a good one"
        );
        assert_eq!((run.at.failures, run.at.history.skipped, run.at.history.steps), (0, 2, 2));
        let _ = poison(&mut run, f32::NAN);
        assert_ne!(bits(&run.optimiser.m), before[1], "a good step does change them");
        let before = [&run.model.weights, &run.optimiser.m, &run.optimiser.v].map(bits);
        for _ in [1, 2] {
            run.step(&batch, &schedule, &Silent).unwrap();
        }
        let told = run.step(&batch, &schedule, &Silent).unwrap_err().to_string();
        for words in ["train.lr", "three steps in a row", "step 7 (epoch 1, batch 1)", "--fresh"] {
            assert!(told.contains(words), "{told}");
        }
        assert_eq!([&run.model.weights, &run.optimiser.m, &run.optimiser.v].map(bits), before);
    }

    #[test]
    fn a_spike_is_told_and_noise_is_not() {
        let mut spikes = Spikes::default();
        let noise = |i: u32| f64::from(i * 7919 % 101) / 500.0;
        for i in 0..400 {
            assert_eq!(spikes.watch(3.0 - f64::from(i) / 400.0 + noise(i)), None, "step {i}");
        }
        let usual = spikes.watch(9.0).expect("three times the usual loss");
        assert!((2.0..2.4).contains(&usual), "{usual}");
    }
}
