//! Gradients against central differences, and small problems whose optimum is known in closed form.

use super::group::{Group, Settings};
use super::pairs::{self, Pair};
use super::*;
use engine::cpu::random::{Reader, Stream};

const GROUP: [GroupObjective; 7] = [
    GroupObjective::Grpo,
    GroupObjective::DrGrpo,
    GroupObjective::Dapo,
    GroupObjective::Gspo,
    GroupObjective::Ecpo,
    GroupObjective::Gbpo,
    GroupObjective::Rloo,
];
const PAIRS: [PairObjective; 5] = [
    PairObjective::Dpo,
    PairObjective::Cdpo,
    PairObjective::Ipo,
    PairObjective::Simpo,
    PairObjective::Sdpo,
];

fn settings(objective: GroupObjective, beta: f64) -> Settings {
    Settings { objective, clip_low: 0.2, clip_high: 0.28, delta: 0.1, length: 5.0, kl: Kl { beta } }
}

fn pair_settings(objective: PairObjective) -> pairs::Settings {
    pairs::Settings { objective, beta: 0.7, gamma: 0.3, noise: 0.1 }
}

/// Three log-probabilities a token, answers of 1 to 4 tokens; policy and old policy far enough apart that clips act.
fn drawn(random: &mut Reader, answers: usize) -> Vec<[Vec<f64>; 3]> {
    (0..answers)
        .map(|i| {
            let mut near = |spread: f64, around: &[f64]| -> Vec<f64> {
                around
                    .iter()
                    .map(|a| (a + spread * f64::from(random.normal())).min(-1e-3))
                    .collect()
            };
            let policy = near(0.8, &vec![-1.5; 1 + i % 4]);
            [near(0.4, &policy), near(0.3, &policy), policy]
        })
        .collect()
}

fn view(raw: &[[Vec<f64>; 3]]) -> Vec<Answer<'_>> {
    raw.iter().map(|[old, reference, policy]| Answer { policy, old, reference }).collect()
}

/// d f / d (policy token `t`) of every token, by central differences of `f`.
fn differences(raw: &[[Vec<f64>; 3]], f: &impl Fn(&[[Vec<f64>; 3]]) -> f64) -> Vec<f64> {
    const H: f64 = 1e-6;
    let mut out = Vec::new();
    for i in 0..raw.len() {
        for t in 0..raw[i][2].len() {
            let at = |off: f64| {
                let mut moved = raw.to_vec();
                moved[i][2][t] += off;
                f(&moved)
            };
            out.push((at(H) - at(-H)) / (2.0 * H));
        }
    }
    out
}

fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() < 1e-7 * (1.0 + b.abs()), "{what}: token {i}: {a} and {b}");
    }
}

#[test]
fn gradients_of_groups_are_their_differences() {
    for objective in GROUP {
        let mut random = Stream::new(11, objective as u64).reader();
        let mut clipped = 0.0;
        for _ in 0..20 {
            let raw = drawn(&mut random, 8);
            let rewards: Vec<f64> = (0..8).map(|_| f64::from(random.normal())).collect();
            let s = settings(objective, 0.05);
            let evaluate = |s: &Settings, raw: &[[Vec<f64>; 3]]| {
                let answers = view(raw);
                let (a, b) = answers.split_at(4);
                let (ra, rb) = rewards.split_at(4);
                s.evaluate(&[Group { answers: a, rewards: ra }, Group { answers: b, rewards: rb }])
            };
            let out = evaluate(&s, &raw);
            clipped += out.clipped;
            // What stands under a stop-gradient is put into π_old, and differentiated as plain clipping.
            let mut frozen = raw.clone();
            let mut plain = s;
            let advantages: Vec<f64> =
                rewards.chunks(4).flat_map(|r| objective.advantage().of(r)).collect();
            for ([old, _, policy], &a) in frozen.iter_mut().zip(&advantages) {
                for (old, &p) in old.iter_mut().zip(&*policy) {
                    match objective {
                        GroupObjective::Ecpo => *old = old.max((p.exp() / 1.38).ln()),
                        GroupObjective::Gbpo if a >= 0.0 => *old = old.max(p),
                        GroupObjective::Gbpo => *old = old.max((1.0 - p.exp()).ln()),
                        _ => {}
                    }
                }
            }
            if matches!(objective, GroupObjective::Ecpo | GroupObjective::Gbpo) {
                plain.objective = GroupObjective::Grpo;
            }
            if objective == GroupObjective::Gbpo {
                (plain.clip_low, plain.clip_high) = (1.0, f64::INFINITY);
            }
            let expected = differences(&frozen, &|raw| evaluate(&plain, raw).loss);
            assert_near(&out.gradient, &expected, &format!("{objective:?}"));
            assert!((out.loss - evaluate(&plain, &frozen).loss).abs() < 1e-12);
        }
        let can = !matches!(objective, GroupObjective::Gbpo | GroupObjective::Rloo);
        assert_eq!(clipped > 0.0, can, "{objective:?}: {clipped}");
    }
}

#[test]
fn gradients_of_pairs_are_their_differences() {
    for objective in PAIRS {
        let mut random = Stream::new(12, objective as u64).reader();
        for negatives in [1, 3] {
            let raw = drawn(&mut random, 2 * (1 + negatives));
            let evaluate = |raw: &[[Vec<f64>; 3]]| {
                let answers = view(raw);
                let pairs: Vec<Pair<'_>> = answers
                    .chunks(1 + negatives)
                    .map(|c| Pair { chosen: c[0], rejected: &c[1..] })
                    .collect();
                pair_settings(objective).evaluate(&pairs)
            };
            let expected = differences(&raw, &|raw| evaluate(raw).loss);
            assert_near(&evaluate(&raw).gradient, &expected, &format!("{objective:?}"));
        }
    }
}

#[test]
fn a_first_update_is_minus_the_advantage_whatever_the_clip() {
    let policy = [vec![-0.5, -1.0], vec![-2.0, -0.1], vec![-0.7]];
    let answers: Vec<Answer<'_>> =
        policy.iter().map(|p| Answer { policy: p, old: p, reference: p }).collect();
    let rewards = [1.0, 0.0, 0.0];
    let group = Group { answers: &answers, rewards: &rewards };
    let s = settings(GroupObjective::Grpo, 0.1);
    let a = Advantage::ZScore.of(&rewards);
    assert!((a[0] - (2.0 / 3.0) / ((1.0f64 / 3.0).sqrt() + 1e-4)).abs() < 1e-12, "n − 1: {a:?}");
    let out = s.evaluate(&[group]);
    let expected = [a[0] / 6.0, a[0] / 6.0, a[1] / 6.0, a[1] / 6.0, a[2] / 3.0].map(|g| -g);
    assert_near(&out.gradient, &expected, "on-policy");
    assert_eq!((out.kl, out.clipped), (0.0, 0.0));
}

#[test]
fn a_group_without_contrast_teaches_nothing() {
    assert!(!group::has_contrast(&[0.3; 4]) && group::has_contrast(&[0.0, 0.0, 1e-9]));
    let p = vec![-1.0, -2.0];
    let answers = [Answer { policy: &p, old: &p, reference: &p }; 4];
    for objective in GROUP {
        let group = Group { answers: &answers, rewards: &[0.3; 4] };
        let out = settings(objective, 0.0).evaluate(&[group]);
        assert!(out.gradient.iter().all(|g| *g == 0.0), "{objective:?}");
    }
}

#[test]
fn no_gradient_of_gbpo_exceeds_that_of_a_cross_entropy() {
    // d log π by a token's own logit is 1 − π: GBPO's slope times that stays within |A|, where a plain ratio would run away.
    for p in [-12.0f64, -3.0, -0.7, -1e-3] {
        for old in [-20.0f64, -3.0, -0.1] {
            for rewards in [[1.0, 0.0], [0.0, 1.0]] {
                let (policy, old, other) = (vec![p], vec![old], vec![-1.0]);
                let answers = [
                    Answer { policy: &policy, old: &old, reference: &policy },
                    Answer { policy: &other, old: &other, reference: &other },
                ];
                let s = settings(GroupObjective::Gbpo, 0.0);
                let out = s.evaluate(&[Group { answers: &answers, rewards: &rewards }]);
                let a = Advantage::ZScore.of(&rewards)[0].abs();
                let logit = 2.0 * out.gradient[0].abs() * (1.0 - p.exp());
                let most = if rewards[0] > 0.0 { a * (1.0 - p.exp()) } else { a * p.exp() };
                assert!(logit <= most + 1e-12, "π {p}, A {a}: {logit} above {most}");
            }
        }
    }
}

fn log_softmax(logits: &[f64]) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lse = top + logits.iter().map(|l| (l - top).exp()).sum::<f64>().ln();
    logits.iter().map(|l| l - lse).collect()
}

/// Steps down the gradient of `objective`, given by arm as d loss / d log π, over a softmax's logits.
fn descend(logits: &mut [f64], rate: f64, by_arm: &[f64]) {
    let p: Vec<f64> = log_softmax(logits).iter().map(|l| l.exp()).collect();
    let total: f64 = by_arm.iter().sum();
    for ((l, g), p) in logits.iter_mut().zip(by_arm).zip(p) {
        *l -= rate * (g - p * total);
    }
}

/// Four arms of known rewards: every member of the family finds the best one from its own draws.
#[test]
fn groups_find_the_best_arm() {
    let worth = [0.1, 0.7, 0.4, 0.0];
    for objective in GROUP {
        let mut logits = [0.0; 4];
        let mut random = Stream::new(13, objective as u64).reader();
        for _ in 0..400 {
            let policy = log_softmax(&logits);
            let arms: Vec<usize> = (0..8)
                .map(|_| {
                    let mut u = random.f64();
                    policy.iter().position(|p| {
                        u -= p.exp();
                        u < 0.0
                    })
                })
                .map(|arm| arm.unwrap_or(3))
                .collect();
            let each: Vec<[f64; 1]> = arms.iter().map(|&a| [policy[a]]).collect();
            let answers: Vec<Answer<'_>> =
                each.iter().map(|p| Answer { policy: p, old: p, reference: p }).collect();
            let rewards: Vec<f64> = arms.iter().map(|&a| worth[a]).collect();
            let out = settings(objective, 0.0)
                .evaluate(&[Group { answers: &answers, rewards: &rewards }]);
            let mut by_arm = [0.0; 4];
            for (&arm, g) in arms.iter().zip(&out.gradient) {
                by_arm[arm] += g;
            }
            descend(&mut logits, 0.5, &by_arm);
        }
        let best = log_softmax(&logits)[1].exp();
        assert!(best > 0.9, "{objective:?}: {best}");
    }
}

/// With the divergence taken off the reward, REINFORCE's optimum is π ∝ π_ref · exp(r / β).
#[test]
fn rewards_less_k1_lead_to_the_tilted_reference() {
    let (worth, beta) = ([0.1, 0.7, 0.4, 0.0], 0.5);
    let reference = log_softmax(&[0.3, -0.4, 0.0, 0.5]);
    let optimum =
        log_softmax(&std::array::from_fn::<f64, 4, _>(|a| reference[a] + worth[a] / beta));
    let mut logits = [0.0; 4];
    for _ in 0..3000 {
        let policy = log_softmax(&logits);
        // The expectation itself: every arm, its gradient weighed by how likely it is.
        let each: Vec<[f64; 1]> = policy.iter().map(|&p| [p]).collect();
        let held: Vec<[f64; 1]> = reference.iter().map(|&r| [r]).collect();
        let answers: Vec<Answer<'_>> = (0..4)
            .map(|a| Answer { policy: &each[a], old: &each[a], reference: &held[a] })
            .collect();
        let rewards: Vec<f64> =
            (0..4).map(|a| worth[a] - beta * (policy[a] - reference[a])).collect();
        let out = settings(GroupObjective::Rloo, 0.0)
            .evaluate(&[Group { answers: &answers, rewards: &rewards }]);
        let by_arm: Vec<f64> = out.gradient.iter().zip(&policy).map(|(g, p)| g * p.exp()).collect();
        descend(&mut logits, 0.3, &by_arm);
    }
    assert_near_by(&log_softmax(&logits), &optimum, 1e-6);
}

fn assert_near_by(found: &[f64], expected: &[f64], by: f64) {
    for (a, b) in found.iter().zip(expected) {
        assert!((a - b).abs() < by, "{found:?} and {expected:?}");
    }
}

/// Two arms, the first preferred with probability `p`: the margin at which the expected loss is least.
fn best_margin(s: pairs::Settings, p: f64) -> f64 {
    let mut logits = [0.0, 0.0];
    let even = [[0.5f64.ln()], [0.5f64.ln()]];
    for _ in 0..20_000 {
        let policy = log_softmax(&logits);
        let each = [[policy[0]], [policy[1]]];
        let answer = |a: usize| Answer { policy: &each[a], old: &each[a], reference: &even[a] };
        let (first, second) = ([answer(0)], [answer(1)]);
        let mut by_arm = [0.0; 2];
        for (chosen, rejected, order, weight) in
            [(first[0], &second, [0, 1], p), (second[0], &first, [1, 0], 1.0 - p)]
        {
            let out = s.evaluate(&[Pair { chosen, rejected }]);
            for (arm, g) in order.iter().zip(&out.gradient) {
                by_arm[*arm] += weight * g;
            }
        }
        descend(&mut logits, 0.2, &by_arm);
    }
    logits[0] - logits[1]
}

#[test]
fn pairs_settle_on_the_margin_that_the_preferences_have() {
    let logit = |p: f64| (p / (1.0 - p)).ln();
    let s = pair_settings;
    let plain = |o| pairs::Settings { gamma: 0.0, ..s(o) };
    assert_near_by(&[best_margin(s(PairObjective::Dpo), 0.8)], &[logit(0.8) / 0.7], 1e-6);
    assert_near_by(&[best_margin(s(PairObjective::Sdpo), 0.8)], &[logit(0.8) / 0.7], 1e-6);
    assert_near_by(&[best_margin(s(PairObjective::Cdpo), 1.0)], &[logit(0.9) / 0.7], 1e-6);
    assert_near_by(&[best_margin(s(PairObjective::Ipo), 1.0)], &[0.5 / 0.7], 1e-6);
    assert_near_by(&[best_margin(s(PairObjective::Ipo), 0.8)], &[0.6 * 0.5 / 0.7], 1e-6);
    assert_near_by(&[best_margin(plain(PairObjective::Simpo), 0.8)], &[logit(0.8) / 0.7], 1e-6);
}

/// Choices of one among three by Plackett–Luce: S-DPO's optimum gives each arm its share, exp(β·Δ) ∝ p.
#[test]
fn several_negatives_settle_on_the_shares() {
    let shares = [0.5f64, 0.3, 0.2];
    let even = [[(1.0f64 / 3.0).ln()]; 3];
    let mut logits = [0.0; 3];
    let s = pair_settings(PairObjective::Sdpo);
    for _ in 0..20_000 {
        let policy = log_softmax(&logits);
        let each: Vec<[f64; 1]> = policy.iter().map(|&p| [p]).collect();
        let answer = |a: usize| Answer { policy: &each[a], old: &each[a], reference: &even[a] };
        let mut by_arm = [0.0; 3];
        for chosen in 0..3 {
            let others: Vec<usize> = (0..3).filter(|&a| a != chosen).collect();
            let rejected: Vec<Answer<'_>> = others.iter().map(|&a| answer(a)).collect();
            let out = s.evaluate(&[Pair { chosen: answer(chosen), rejected: &rejected }]);
            for (arm, g) in std::iter::once(&chosen).chain(&others).zip(&out.gradient) {
                by_arm[*arm] += shares[chosen] * g;
            }
        }
        descend(&mut logits, 0.5, &by_arm);
    }
    let found = log_softmax(&std::array::from_fn::<f64, 3, _>(|a| 0.7 * logits[a]));
    assert_near_by(&found, &shares.map(f64::ln), 1e-6);
}
