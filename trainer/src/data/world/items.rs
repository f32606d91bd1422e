//! The world's things: attributes first, then words that tell them.

use super::super::Item;
use super::words::{
    AUTHORS, BRANDS, CATEGORIES, COLOURS, COMPLEMENTS, Category, ROUTINES, SERIES, SERIES_FIRST,
    SERIES_SECOND,
};
use engine::cpu::random::Reader;
use std::collections::HashSet;

/// What the choice model knows of an item. Colours and brands are indices into the word lists.
#[derive(Debug, Clone)]
pub(super) struct Thing {
    pub category: usize,
    /// Index into BRANDS; authors follow after them.
    pub brand: usize,
    pub colour: usize,
    pub material: &'static str,
    /// Zipf weight.
    pub popularity: f64,
    /// Sold in the last season only.
    pub new: bool,
    /// The next volume.
    pub sequel: Option<u32>,
    /// What goes with it.
    pub complements: Vec<u32>,
}

/// The catalogue.
#[derive(Debug, Clone)]
pub(super) struct Shop {
    pub things: Vec<Thing>,
    /// Items of each of CATEGORIES, ascending; empty for those that a small world leaves out.
    pub by_category: Vec<Vec<u32>>,
    /// Categories of each routine in use.
    pub routines: Vec<Vec<usize>>,
}

const VOLUMES: usize = 4;
/// Popularity of the item of rank r is (r + ZIPF_SHIFT)^−ZIPF_POWER.
const ZIPF_SHIFT: f64 = 4.0;
const ZIPF_POWER: f64 = 0.8;

fn category_index(name: &str) -> usize {
    CATEGORIES.iter().position(|c| c.name == name).unwrap_or(0)
}

/// Makes `count` items, a share `new` of them for the last season.
pub(super) fn stock(count: usize, new: f64, random: &mut Reader) -> (Shop, Vec<Item>) {
    let routines: Vec<Vec<usize>> = ROUTINES[..(count / 60).clamp(2, ROUTINES.len())]
        .iter()
        .map(|r| r.steps.iter().map(|s| category_index(s)).collect())
        .collect();
    let mut used: Vec<usize> = routines.iter().flatten().copied().collect();
    for (device, addition) in COMPLEMENTS {
        if used.contains(&category_index(device)) {
            used.push(category_index(addition));
        }
    }
    used.sort_unstable();
    used.dedup();

    let (mut things, mut items, mut titles) = (Vec::new(), Vec::new(), HashSet::new());
    for n in 0..count {
        let category = used[n % used.len()];
        let (thing, item) = loop {
            let (thing, item) = if CATEGORIES[category].name == SERIES {
                volume(&things, category, n / used.len(), random)
            } else {
                thing(category, random)
            };
            // Two things of one name would confuse people; volumes never clash. After many draws a
            // number tells them apart, so that any count ends.
            if titles.insert(item.title.clone()) {
                break (thing, item);
            }
            if random.below(64) == 0 {
                let title = format!("{}, model {n}", item.title);
                titles.insert(title.clone());
                break (thing, Item { title, ..item });
            }
        };
        things.push(thing);
        items.push(item);
    }

    // Volumes of a series were made in order; a volume 1 closes the series before it.
    let mut last: Option<usize> = None;
    for n in 0..things.len() {
        if CATEGORIES[things[n].category].name == SERIES {
            match last {
                Some(before)
                    if items[n].attribute("series") == items[before].attribute("series") =>
                {
                    things[before].sequel = Some(n as u32);
                }
                _ => {}
            }
            last = Some(n);
        }
    }
    let mut ranks: Vec<usize> = (0..count).collect();
    random.shuffle(&mut ranks);
    for (thing, rank) in things.iter_mut().zip(&ranks) {
        thing.popularity = (*rank as f64 + ZIPF_SHIFT).powf(-ZIPF_POWER);
    }
    let mut order: Vec<usize> = (0..count).collect();
    random.shuffle(&mut order);
    let fit = |t: &Thing| CATEGORIES[t.category].name != SERIES;
    let fresh: Vec<usize> = order.into_iter().filter(|&n| fit(&things[n])).collect();
    for &n in fresh.iter().take((count as f64 * new) as usize) {
        things[n].new = true;
    }

    let mut by_category = vec![Vec::new(); CATEGORIES.len()];
    for (n, thing) in things.iter().enumerate() {
        by_category[thing.category].push(n as u32);
    }
    for (device, addition) in COMPLEMENTS {
        let all = &by_category[category_index(addition)];
        for &n in &by_category[category_index(device)] {
            let brand = things[n as usize].brand;
            let own = |&&a: &&u32| things[a as usize].brand == brand && !things[a as usize].new;
            things[n as usize].complements = all.iter().filter(own).copied().collect();
        }
    }
    for (n, item) in items.iter_mut().enumerate() {
        item.id = format!("w{:04}", n + 1);
    }
    (Shop { things, by_category, routines }, items)
}

fn pick<'a, T: ?Sized>(list: &[&'a T], random: &mut Reader) -> &'a T {
    list[random.below(list.len())]
}

/// Brands have their fields: six of them make things of a category.
fn brand_for(category: usize, random: &mut Reader) -> usize {
    (category * 3 + random.below(6) * 2) % BRANDS.len()
}

fn room(category: usize) -> &'static str {
    let name = CATEGORIES[category].name;
    let of = |name: &str| ROUTINES.iter().find(|r| r.steps.contains(&name)).map(|r| r.name);
    let device = COMPLEMENTS.iter().find(|(_, addition)| *addition == name).map(|(d, _)| *d);
    of(name).or(device.and_then(of)).unwrap_or("home")
}

fn a(noun: &str) -> &'static str {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "An" } else { "A" }
}

fn thing(category: usize, random: &mut Reader) -> (Thing, Item) {
    let words: &Category = &CATEGORIES[category];
    let (noun, material) = (pick(words.nouns, random), pick(words.materials, random));
    let (nature, purpose) = (pick(words.traits, random), pick(words.uses, random));
    let (brand, colour) = (brand_for(category, random), random.below(COLOURS.len()));
    let (maker, shade) = (BRANDS[brand], COLOURS[colour]);

    let title = format!("{maker} {material} {noun}, {nature}, {shade}");
    let set = room(category);
    let description = match random.below(3) {
        0 => format!(
            "{} {noun} of {material} in {shade}, {nature}. {maker} made it for {purpose}. Part of \
             the {set} range.",
            a(noun)
        ),
        1 => format!(
            "For {purpose}: this {material} {noun} from {maker} is {nature} and comes in {shade}. \
             Found under {} in {set}.",
            words.name
        ),
        _ => format!(
            "{maker} builds {} with {purpose} in mind. This one is {nature}, made of {material} \
             and finished in {shade}. It belongs to the {set} range.",
            words.name
        ),
    };
    let attributes = [
        ("category", words.name),
        ("brand", maker),
        ("colour", shade),
        ("material", material),
        ("style", nature),
        ("use", purpose),
    ];
    let thing = Thing {
        category,
        brand,
        colour,
        material,
        popularity: 0.0,
        new: false,
        sequel: None,
        complements: Vec::new(),
    };
    (thing, item(title, &attributes, &description))
}

/// Volume `nth mod VOLUMES + 1` of the series number `nth / VOLUMES`.
fn volume(before: &[Thing], category: usize, nth: usize, random: &mut Reader) -> (Thing, Item) {
    let (series, number) = (nth / VOLUMES, nth % VOLUMES + 1);
    // 10 and 10 share a factor: the shift by series / 10 visits every pair of halves in turn.
    let first = SERIES_FIRST[series % SERIES_FIRST.len()];
    let second = SERIES_SECOND[(series * 3 + series / SERIES_FIRST.len()) % SERIES_SECOND.len()];
    let round = series / (SERIES_FIRST.len() * SERIES_SECOND.len());
    let name = match round {
        0 => format!("{first} {second}"),
        _ => format!("{first} {second} {}", round + 1),
    };
    let author = series % AUTHORS.len();
    // A series keeps its cover.
    let colour = match before.iter().rev().find(|t| t.category == category) {
        Some(t) if number > 1 => t.colour,
        _ => random.below(COLOURS.len()),
    };
    let words = &CATEGORIES[category];
    let purpose = pick(words.uses, random);
    let (writer, shade) = (AUTHORS[author], COLOURS[colour]);
    let volume = number.to_string();
    let title = format!("{name}, volume {number}, a novel by {writer}, {shade} cover");
    let opening = match number {
        1 => format!("The first volume of {name}"),
        n => format!("Volume {n} of {name} follows volume {}", n - 1),
    };
    let description =
        format!("{opening}. A paperback by {writer} in a {shade} cover, for {purpose}.");
    let attributes = [
        ("category", words.name),
        ("brand", writer),
        ("colour", shade),
        ("series", name.as_str()),
        ("volume", volume.as_str()),
        ("use", purpose),
    ];
    let thing = Thing {
        category,
        brand: BRANDS.len() + author,
        colour,
        material: words.materials[0],
        popularity: 0.0,
        new: false,
        sequel: None,
        complements: Vec::new(),
    };
    (thing, item(title, &attributes, &description))
}

fn item(title: String, attributes: &[(&str, &str)], description: &str) -> Item {
    let attributes = attributes.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    // The description says every attribute in a sentence, so none is listed again.
    let text = format!("{title}\n{description}");
    Item { id: String::new(), title, text, attributes }
}
