//! How people choose. What somebody has in mind before an event is a [`Mind`]; the next choice is a
//! mixture of [`Motive`]s that follow from it. Living draws a motive, then a thing; the oracle sums
//! over both. One function states the mixture for the two of them.

use super::items::{Shop, Thing};
use super::words::{BRANDS, COLOURS};
use engine::cpu::random::Reader;

/// Favoured (routine, colour, brand) lists are this long …
const LIKES: usize = 3;
/// … and their entries are followed in these shares.
const SHARES: [f64; LIKES] = [0.6, 0.25, 0.15];
/// A thing in the theme's colour or brand, or of the favoured material, is chosen e^so much more.
const COLOUR_PULL: f64 = 2.4;
const BRAND_PULL: f64 = 1.8;
const MATERIAL_PULL: f64 = 0.6;
/// New things are e^so much more attractive.
const NEW_PULL: f64 = 1.0;
/// Where there is an unread next volume, or something that goes with the last thing.
const SEQUEL: f64 = 0.55;
const COMPLEMENT: f64 = 0.45;
/// What everybody buys.
const FASHION: f64 = 0.05;
/// In the midst of a routine: the next step, the same again, another routine.
const STEP: f64 = 0.78;
const AGAIN: f64 = 0.08;
/// A like is replaced after an event.
const DRIFT: f64 = 0.05;

/// What a person has in mind before an event.
#[derive(Debug, Clone)]
pub(super) struct Mind {
    routines: [u8; LIKES],
    colours: [u8; LIKES],
    brands: [u8; LIKES],
    material: &'static str,
    /// Routine, step done, colour and brand; none before the first.
    plan: Option<Plan>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Plan {
    routine: u8,
    step: u8,
    colour: u8,
    brand: u8,
}

/// A person's life: what was bought, and what was in mind before each of it.
#[derive(Debug, Clone)]
pub(super) struct Person {
    pub bought: Vec<u32>,
    minds: Vec<Mind>,
    /// From this event on new things are for sale.
    season_from: usize,
}

/// One reason to choose: what it may lead to and what it leaves in mind.
struct Motive {
    share: f64,
    from: From,
    plan: Option<Plan>,
}

enum From {
    One(u32),
    Complements(u32),
    /// A category, after the plan's colour and brand.
    Step(usize),
    Everything,
}

pub(super) struct Shopper<'a> {
    shop: &'a Shop,
}

impl<'a> Shopper<'a> {
    pub fn new(shop: &'a Shop) -> Self {
        Shopper { shop }
    }

    /// Lives through `events` choices; `season(at)` says whether new things are for sale by then.
    pub fn live(
        &self,
        events: usize,
        season: impl Fn(usize) -> bool,
        random: &mut Reader,
    ) -> Person {
        let season_from = (0..events).find(|&at| season(at)).unwrap_or(events);
        let mut mind = self.newborn(random);
        let mut person = Person { bought: Vec::new(), minds: Vec::new(), season_from };
        for at in 0..events {
            person.minds.push(mind.clone());
            let weights = |m: &Motive| self.weights(&mind, m, &person.bought, at >= season_from);
            let mut motives = self.motives(&mind, &person.bought);
            // Motives that lead nowhere (everything there is bought) fall away with their share.
            motives.retain(|m| weights(m).iter().any(|(_, w)| *w > 0.0));
            let motive = &motives[draw(motives.iter().map(|m| m.share), random)];
            let offers = weights(motive);
            let item = offers[draw(offers.iter().map(|(_, w)| *w), random)].0;
            mind.plan = motive.plan;
            person.bought.push(item);
            self.drift(&mut mind, random);
        }
        person
    }

    /// The truth about the event `at`.
    pub fn probabilities(&self, person: &Person, at: usize) -> Vec<f64> {
        let (mind, bought) = (&person.minds[at], &person.bought[..at]);
        let mut all = vec![0.0; self.shop.things.len()];
        let mut total = 0.0;
        for motive in self.motives(mind, bought) {
            let offers = self.weights(mind, &motive, bought, at >= person.season_from);
            let sum: f64 = offers.iter().map(|(_, w)| w).sum();
            if sum > 0.0 {
                total += motive.share;
                offers.iter().for_each(|(i, w)| all[*i as usize] += motive.share * w / sum);
            }
        }
        all.iter_mut().for_each(|p| *p /= total);
        all
    }

    fn newborn(&self, random: &mut Reader) -> Mind {
        let mut few = |n: usize| {
            let mut list: Vec<u8> = (0..n as u8).collect();
            random.shuffle(&mut list);
            std::array::from_fn(|i| list[i % list.len()])
        };
        let (routines, colours) = (few(self.shop.routines.len()), few(COLOURS.len()));
        let brands = few(BRANDS.len());
        let material = self.shop.things[random.below(self.shop.things.len())].material;
        Mind { routines, colours, brands, material, plan: None }
    }

    fn drift(&self, mind: &mut Mind, random: &mut Reader) {
        if random.f64() >= DRIFT {
            return;
        }
        let (list, of) = match random.below(3) {
            0 => (&mut mind.routines, self.shop.routines.len()),
            1 => (&mut mind.colours, COLOURS.len()),
            _ => (&mut mind.brands, BRANDS.len()),
        };
        let fresh = random.below(of) as u8;
        if !list.contains(&fresh) {
            list.rotate_right(1); // the new love comes first, the last is forgotten
            list[0] = fresh;
        }
    }

    /// The mixture of the next choice. Shares sum to 1.
    fn motives(&self, mind: &Mind, bought: &[u32]) -> Vec<Motive> {
        let mut all = Vec::with_capacity(32);
        let mut left = 1.0;
        let last = bought.last().map(|&i| &self.shop.things[i as usize]);
        if let Some(next) = last.and_then(|t| t.sequel).filter(|s| !bought.contains(s)) {
            all.push(Motive { share: SEQUEL, from: From::One(next), plan: mind.plan });
            left -= SEQUEL;
        } else if last.is_some_and(|t| t.complements.iter().any(|c| !bought.contains(c))) {
            let from = From::Complements(bought[bought.len() - 1]);
            all.push(Motive { share: COMPLEMENT, from, plan: mind.plan });
            left -= COMPLEMENT;
        }
        all.push(Motive { share: left * FASHION, from: From::Everything, plan: mind.plan });
        left *= 1.0 - FASHION;

        if let Some(plan) = mind.plan {
            let steps = &self.shop.routines[plan.routine as usize];
            let step = From::Step(steps[plan.step as usize]);
            all.push(Motive { share: left * AGAIN, from: step, plan: mind.plan });
            let mut rest = left * (1.0 - AGAIN);
            if let Some(&category) = steps.get(plan.step as usize + 1) {
                let next = Some(Plan { step: plan.step + 1, ..plan });
                let from = From::Step(category);
                all.push(Motive { share: left * STEP, from, plan: next });
                rest = left * (1.0 - AGAIN - STEP);
            }
            left = rest;
        }
        // Another routine, in a colour and a brand that the person likes.
        for (&routine, a) in mind.routines.iter().zip(SHARES) {
            for (&colour, b) in mind.colours.iter().zip(SHARES) {
                for (&brand, c) in mind.brands.iter().zip(SHARES) {
                    let plan = Some(Plan { routine, step: 0, colour, brand });
                    let from = From::Step(self.shop.routines[routine as usize][0]);
                    all.push(Motive { share: left * a * b * c, from, plan });
                }
            }
        }
        all
    }

    /// What a motive may lead to, by weight.
    fn weights(
        &self,
        mind: &Mind,
        motive: &Motive,
        bought: &[u32],
        season: bool,
    ) -> Vec<(u32, f64)> {
        let things = &self.shop.things;
        let weigh = |i: u32, by: &dyn Fn(&Thing) -> f64| {
            let t = &things[i as usize];
            let gone = (t.new && !season) || bought.contains(&i);
            (i, if gone { 0.0 } else { t.popularity * by(t).exp() })
        };
        match motive.from {
            From::One(i) => vec![weigh(i, &|_| 0.0)],
            From::Complements(device) => {
                things[device as usize].complements.iter().map(|&i| weigh(i, &|_| 0.0)).collect()
            }
            From::Everything => (0..things.len() as u32).map(|i| weigh(i, &|_| 0.0)).collect(),
            From::Step(category) => {
                let Some(plan) = motive.plan else { return Vec::new() };
                let pull = |t: &Thing| {
                    COLOUR_PULL * f64::from(t.colour == plan.colour as usize)
                        + BRAND_PULL * f64::from(t.brand == plan.brand as usize)
                        + MATERIAL_PULL * f64::from(t.material == mind.material)
                        + NEW_PULL * f64::from(t.new)
                };
                self.shop.by_category[category].iter().map(|&i| weigh(i, &pull)).collect()
            }
        }
    }
}

/// An index by weight.
fn draw(weights: impl Iterator<Item = f64> + Clone, random: &mut Reader) -> usize {
    let total: f64 = weights.clone().sum();
    let mut left = random.f64() * total;
    let mut last = 0;
    for (i, w) in weights.enumerate() {
        if w > 0.0 {
            last = i; // rounding may leave a sliver at the end; it goes to the last that can be
            if left < w {
                return i;
            }
        }
        left -= w;
    }
    last
}
