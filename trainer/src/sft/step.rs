//! Steps: forward and backward of their packed batches, the optimiser, and what is done where the numbers
//! are not what they should be. A step is issued first and settled later, when its loss and norm are known: a GPU
//! is given the next one before it is through with this one, and replays two captured graphs a step, one for each
//! batch's pass and one for the update. Whatever differs from step to step therefore lies in tensors.

use super::TrainRecipe;
use super::state::Position;
use crate::backward::Gradients;
use crate::error::{Error, Result};
use crate::loss::{self, Batch, Loss, Room, Sample};
use crate::observe::{Event, Observer, Training};
use crate::optim::{AdamW, Report, Schedule};
use engine::cpu::random::Stream;
use engine::model::block::Dropout;
use engine::model::{Transformer, Workspace};
use engine::ops::reduce::Sum;
use engine::replay::Replay;
use engine::{Device, Tensor};
use std::collections::VecDeque;

/// Streams of the run's seed for dropout; the low half numbers the packed batch.
const STREAM_DROPOUT: u64 = 0x5f72 << 32;

/// Steps in a row without a finite gradient after which a run stops.
const NOT_FINITE_IN_A_ROW: u32 = 3;

/// Steps that a GPU may be behind what was issued.
const BEHIND: usize = 1;

/// A run in memory.
pub(super) struct Run<'a> {
    pub train: &'a TrainRecipe,
    pub seed: u64,
    pub model: Transformer,
    pub ws: Workspace,
    pub gradients: Gradients,
    pub optimiser: AdamW,
    pub loss: Box<dyn Loss + 'a>,
    pub work: Work,
    /// As of the last step that was settled.
    pub at: Position,
    pub spikes: Spikes,
}

/// What a step works with and on, beside model and optimiser.
pub(super) struct Work {
    batch: Batch,
    /// Words of the batch's dropout stream.
    stream: Tensor,
    /// Sum of the step's losses so far.
    losses: Sum,
    pass: Replay,
    update: Replay,
    /// Steps that were issued and not yet settled, the oldest first.
    issued: VecDeque<Issued>,
}

/// What the host knows of a step without having waited for it.
struct Issued {
    labels: usize,
    tokens: usize,
}

impl Work {
    /// For batches of at most `room` on `device`.
    ///
    /// # Errors
    /// A device that cannot be opened, or without room for it.
    pub fn new(room: Room, device: Device) -> Result<Work> {
        Ok(Work {
            batch: match device {
                Device::Cpu => Batch::new(&[]),
                Device::Cuda(_) => Batch::with_room(room, device)?,
            },
            stream: Dropout::stream(Stream::new(0, 0), device)?,
            losses: Sum::new(device)?,
            pass: Replay::default(),
            update: Replay::default(),
            issued: VecDeque::new(),
        })
    }
}

impl Run<'_> {
    /// Issues the optimiser step over a group of packed batches, and settles what is due.
    ///
    /// # Errors
    /// Those of [`Run::settle`]; the operators'.
    pub fn step(
        &mut self,
        group: &[Vec<Sample>],
        schedule: &Schedule,
        observer: &dyn Observer,
    ) -> Result<()> {
        self.issue(group, schedule)?;
        let behind = match self.model.placement().device {
            Device::Cpu => 0,
            Device::Cuda(_) => BEHIND,
        };
        self.settle(behind, schedule, observer)
    }

    /// Steps that were tried: settled ones, and those that were issued since.
    pub fn issued(&self) -> u64 {
        self.at.attempts() + self.work.issued.len() as u64
    }

    fn issue(&mut self, group: &[Vec<Sample>], schedule: &Schedule) -> Result<()> {
        let at = self.issued();
        let Run { train, seed, model, ws, gradients, optimiser, loss, work, .. } = self;
        let Work { batch, stream, losses, pass, update, issued } = work;
        let device = model.placement().device;
        let labels: usize = group.iter().flatten().map(Sample::labels).sum();
        // A captured pass does not know how many labels its step has: the optimiser divides for it.
        let mean = 1.0 / labels as f32;
        let (scale, left) = if device == Device::Cpu { (mean, 1.0) } else { (1.0, mean) };
        let mut tokens = 0;
        for (i, samples) in group.iter().enumerate() {
            batch.set(samples)?;
            loss.place(&model.config, batch)?;
            tokens += batch.tokens();
            let place = at * train.accumulate as u64 + i as u64;
            stream.write_u32(&Stream::new(*seed, STREAM_DROPOUT + place).words())?;
            pass.run(device, || {
                let p = train.dropout as f32;
                let dropout = (p > 0.0).then_some(Dropout { p, stream: &*stream });
                loss::pass(loss.as_mut(), model, batch, scale, dropout, ws, gradients)?;
                loss::add_losses(loss.as_ref(), losses)
            })?;
        }
        optimiser.set_pace(schedule.at(at), left)?;
        update.run(device, || {
            optimiser.norm(&gradients.weights)?;
            optimiser.step(&mut model.weights, &gradients.weights, losses)?;
            losses.clear()?;
            gradients.clear()
        })?;
        optimiser.send()?;
        issued.push_back(Issued { labels, tokens });
        Ok(())
    }

    /// Waits for issued steps until no more than `behind` are left, and draws up the run's position by them.
    ///
    /// # Errors
    /// The third step in a row that was skipped because loss or gradient were not finite; a device's faults.
    pub fn settle(
        &mut self,
        behind: usize,
        schedule: &Schedule,
        observer: &dyn Observer,
    ) -> Result<()> {
        while self.work.issued.len() > behind {
            let report = self.optimiser.receive()?;
            let Some(step) = self.work.issued.pop_front() else { break };
            self.book(&step, &report, schedule, observer)?;
        }
        Ok(())
    }

    fn book(
        &mut self,
        step: &Issued,
        report: &Report,
        schedule: &Schedule,
        observer: &dyn Observer,
    ) -> Result<()> {
        let Report { taken, norm, loss, .. } = *report;
        let mean = loss / step.labels as f64;
        self.at.history.tokens += step.tokens as u64;
        if taken {
            self.at.failures = 0;
            self.at.history.steps += 1;
        } else {
            self.at.history.skipped += 1;
        }
        observer.trained(&Training { gradient_norm: norm, ..self.told(mean, schedule) });
        if taken {
            if let Some(usual) = self.spikes.watch(mean) {
                observer.note(&format!(
                    "{}: loss {mean:.3} a token, {usual:.3} before: a spike",
                    self.place()
                ));
            }
            self.at.loss += loss;
            self.at.labels += step.labels;
        } else {
            self.skipped(loss, norm, observer)?;
        }
        self.at.group += 1;
        let note = format!("epoch {} loss {:.4}", self.at.epoch + 1, self.at.mean());
        observer.progress(self.at.attempts(), &note);
        Ok(())
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

    /// Tells of a step that left weights and moments as they were.
    fn skipped(&mut self, loss: f64, norm: f64, observer: &dyn Observer) -> Result<()> {
        self.at.failures += 1;
        let place = self.place();
        observer.note(&format!("{place}: loss {loss}, gradient norm {norm}: skipped"));
        if self.at.failures < NOT_FINITE_IN_A_ROW {
            return Ok(());
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
            work: Work::new(Room { tokens: 0, sequences: 0, taught: 0 }, Device::Cpu).unwrap(),
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
        run.step(&batch, &schedule, &Silent).unwrap();
        assert_eq!(run.at.labels, 3);
        let sound = poison(&mut run, f32::NAN);
        let before = [&run.model.weights, &run.optimiser.m, &run.optimiser.v].map(bits);
        for failures in [1, 2] {
            run.step(&batch, &schedule, &Silent).unwrap();
            assert_eq!(
                (run.at.failures, run.at.labels, run.at.group),
                (failures, 3, 1 + failures as usize)
            );
        }
        poison(&mut run, sound);
        run.step(&batch, &schedule, &Silent).unwrap();
        assert_eq!(run.at.labels, 6, "two in a row and a good one");
        assert_eq!((run.at.failures, run.at.history.skipped, run.at.history.steps), (0, 2, 2));
        let _ = poison(&mut run, f32::NAN);
        assert_ne!(bits(&run.optimiser.m), before[1], "a good step does change them");
        let before = [&run.model.weights, &run.optimiser.m, &run.optimiser.v].map(bits);
        for _ in [1, 2] {
            run.step(&batch, &schedule, &Silent).unwrap();
        }
        let told = run.step(&batch, &schedule, &Silent).unwrap_err().to_string();
        for words in ["train.lr", "three steps in a row", "step 7 (epoch 1, batch 7)", "--fresh"] {
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
