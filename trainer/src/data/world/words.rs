//! The world's words: what is sold, of what, by whom, and what people buy one after another.

/// A kind of thing. Lists are what its items draw their attributes from.
pub(super) struct Category {
    pub name: &'static str,
    pub nouns: &'static [&'static str],
    pub materials: &'static [&'static str],
    pub traits: &'static [&'static str],
    pub uses: &'static [&'static str],
}

/// A plan that people follow step by step, an item of each category in turn.
pub(super) struct Routine {
    pub name: &'static str,
    /// Names of categories. Some occur in several routines: what follows then depends on more than
    /// the last item.
    pub steps: &'static [&'static str],
}

const fn category(
    name: &'static str,
    nouns: &'static [&'static str],
    materials: &'static [&'static str],
    traits: &'static [&'static str],
    uses: &'static [&'static str],
) -> Category {
    Category { name, nouns, materials, traits, uses }
}

/// The category whose items come in series of volumes.
pub(super) const SERIES: &str = "novels";

pub(super) const CATEGORIES: &[Category] = &[
    category("tents", &["tent", "dome tent", "tunnel tent"], &["canvas", "nylon", "polyester"],
        &["two-person", "family size", "lightweight", "storm-proof"],
        &["weekends in the hills", "long hikes", "festival fields"]),
    category("sleeping bags", &["sleeping bag", "sleeping quilt"], &["down", "cotton", "nylon"],
        &["warm", "extra long", "compact", "washable"],
        &["cold nights", "summer nights", "mountain huts"]),
    category("stoves", &["camp stove", "gas stove", "wood stove"], &["steel", "titanium", "brass"],
        &["folding", "single-burner", "two-burner", "windproof"],
        &["cooking outdoors", "quick tea", "a hot supper"]),
    category("lamps", &["lamp", "lantern", "reading lamp"], &["glass", "brass", "linen", "bamboo"],
        &["dimmable", "small", "tall", "rechargeable"],
        &["dark corners", "late reading", "a warm light"]),
    category("backpacks", &["backpack", "day pack", "rucksack"], &["canvas", "leather", "nylon"],
        &["padded", "roll-top", "waterproof", "slim"],
        &["day trips", "the way to work", "carrying a lot"]),
    category("desks", &["desk", "writing desk", "standing desk"], &["oak", "pine", "bamboo", "steel"],
        &["narrow", "corner", "adjustable", "with drawers"],
        &["small rooms", "steady work", "homework"]),
    category("chairs", &["chair", "armchair", "swivel chair"], &["oak", "leather", "linen", "steel"],
        &["high-back", "stackable", "cushioned", "low"],
        &["long sittings", "guests", "a quiet corner"]),
    category("printers", &["printer", "photo printer"], &["plastic", "aluminium"],
        &["compact", "fast", "quiet", "wireless"],
        &["letters and forms", "family photos", "school work"]),
    category("notebooks", &["notebook", "sketchbook", "planner"], &["paper", "leather", "linen"],
        &["ruled", "dotted", "pocket size", "spiral-bound"],
        &["daily notes", "first drafts", "drawing outside"]),
    category("coffee makers", &["coffee maker", "espresso maker"], &["steel", "glass", "aluminium"],
        &["one-cup", "eight-cup", "programmable", "stovetop"],
        &["early mornings", "a full table", "strong coffee"]),
    category("mugs", &["mug", "cup", "travel mug"], &["stoneware", "glass", "enamel", "porcelain"],
        &["large", "double-walled", "handmade", "stackable"],
        &["coffee and tea", "the office", "cold mornings"]),
    category("kettles", &["kettle", "tea kettle"], &["steel", "copper", "glass", "enamel"],
        &["whistling", "long-spouted", "cordless", "small"],
        &["slow coffee", "a pot of tea", "quick soups"]),
    category("trays", &["tray", "serving tray"], &["bamboo", "oak", "copper", "enamel"],
        &["round", "with handles", "non-slip", "oval"],
        &["breakfast in bed", "carrying cups", "the garden table"]),
    category("bowls", &["bowl", "mixing bowl", "salad bowl"], &["stoneware", "glass", "steel", "olive wood"],
        &["deep", "nesting", "with lid", "shallow"],
        &["dough and batter", "big salads", "leftovers"]),
    category("baking tins", &["baking tin", "loaf tin", "muffin tin"], &["steel", "silicone", "enamel"],
        &["non-stick", "spring-form", "deep", "square"],
        &["bread", "birthday cakes", "Sunday pies"]),
    category("aprons", &["apron", "cross-back apron"], &["linen", "cotton", "canvas"],
        &["long", "with pockets", "striped", "washable"],
        &["messy kitchens", "pottery and paint", "the grill"]),
    category("spades", &["spade", "hand fork", "trowel"], &["ash", "steel", "copper"],
        &["long-handled", "narrow", "sharp", "light"],
        &["heavy soil", "flower beds", "moving bulbs"]),
    category("planters", &["planter", "flower pot", "window box"], &["terracotta", "cedar", "zinc"],
        &["self-watering", "hanging", "round", "tall"],
        &["herbs by the door", "balconies", "small trees"]),
    category("watering cans", &["watering can", "plant sprayer"], &["zinc", "copper", "plastic"],
        &["long-spouted", "small", "two-gallon", "fine-rose"],
        &["seedlings", "indoor plants", "dry summers"]),
    category("benches", &["bench", "garden bench", "stool"], &["cedar", "teak", "oak", "steel"],
        &["folding", "two-seat", "slatted", "weatherproof"],
        &["the shade", "the porch", "tying shoes"]),
    category("towels", &["towel", "bath towel", "hand towel"], &["cotton", "linen", "bamboo"],
        &["thick", "quick-drying", "waffle", "fringed"],
        &["the bath", "the beach", "guests"]),
    category("mats", &["bath mat", "rug", "door mat"], &["cotton", "jute", "wool", "cork"],
        &["non-slip", "round", "woven", "soft"],
        &["cold floors", "the hall", "bare feet"]),
    category("mirrors", &["mirror", "wall mirror"], &["oak", "brass", "bamboo"],
        &["round", "full-length", "framed", "small"],
        &["narrow halls", "shaving", "more light"]),
    category("blankets", &["blanket", "throw", "quilt"], &["wool", "cotton", "alpaca", "linen"],
        &["heavy", "knitted", "checked", "light"],
        &["the sofa", "cold evenings", "picnics"]),
    category("pillows", &["pillow", "cushion"], &["down", "cotton", "linen", "buckwheat"],
        &["firm", "soft", "long", "square"],
        &["side sleepers", "the window seat", "a stiff neck"]),
    category("bookshelves", &["bookshelf", "wall shelf", "bookcase"], &["oak", "walnut", "pine", "steel"],
        &["narrow", "five-tier", "low", "open"],
        &["heavy books", "small rooms", "plants and records"]),
    category(SERIES, &["novel"], &["paper"], &["paperback"],
        &["long evenings", "train rides", "rainy Sundays"]),
    category("drills", &["drill", "hammer drill"], &["steel", "magnesium"],
        &["cordless", "compact", "two-speed", "heavy-duty"],
        &["brick walls", "furniture", "odd jobs"]),
    category("tool boxes", &["tool box", "tool bag", "tool chest"], &["steel", "canvas", "pine"],
        &["lockable", "three-drawer", "wheeled", "small"],
        &["the car", "a tidy shed", "small parts"]),
    category("workbenches", &["workbench", "saw horse"], &["beech", "steel", "pine"],
        &["folding", "heavy", "with vice", "adjustable"],
        &["the garage", "sawing and planing", "repairs"]),
    category("helmets", &["helmet", "bike helmet"], &["foam", "carbon", "cork"],
        &["vented", "light", "with visor", "child size"],
        &["the daily ride", "rough trails", "city streets"]),
    category("bike lights", &["bike light", "tail light"], &["aluminium", "plastic", "rubber"],
        &["bright", "clip-on", "rechargeable", "waterproof"],
        &["dark roads", "fog", "winter rides"]),
    category("locks", &["lock", "chain lock", "cable lock"], &["steel", "titanium", "rubber"],
        &["keyed", "folding", "long", "light"],
        &["the station", "short stops", "expensive bikes"]),
    category("easels", &["easel", "table easel"], &["beech", "pine", "aluminium"],
        &["folding", "tall", "adjustable", "light"],
        &["landscapes", "the studio", "large canvases"]),
    category("paint sets", &["paint set", "watercolour set", "brush set"], &["oil", "acrylic", "gouache"],
        &["twelve-piece", "beginner", "travel size", "professional"],
        &["first paintings", "quick sketches", "bright walls"]),
    category("picture frames", &["picture frame", "poster frame"], &["oak", "walnut", "brass", "aluminium"],
        &["deep", "narrow", "large", "square"],
        &["family photos", "prints", "a child's drawings"]),
    category("ink cartridges", &["ink cartridge", "ink set"], &["pigment", "dye"],
        &["high-yield", "twin-pack", "refillable", "photo"],
        &["sharp text", "photo paper", "many pages"]),
    category("coffee filters", &["coffee filter", "filter pack"], &["paper", "cotton", "steel"],
        &["cone", "flat", "reusable", "hundred-piece"],
        &["clear coffee", "less waste", "every morning"]),
    category("drill bits", &["drill bit set", "screwdriver bit set"], &["steel", "cobalt", "titanium"],
        &["ten-piece", "masonry", "long", "magnetic"],
        &["brick and tile", "hard wood", "small screws"]),
];

/// In the order in which small worlds take them: the first few only.
pub(super) const ROUTINES: &[Routine] = &[
    Routine { name: "camping", steps: &["tents", "sleeping bags", "stoves", "lamps", "backpacks"] },
    Routine { name: "home office", steps: &["desks", "chairs", "lamps", "printers", "notebooks"] },
    Routine { name: "coffee corner", steps: &["coffee makers", "mugs", "kettles", "trays"] },
    Routine { name: "reading corner", steps: &["bookshelves", "chairs", "blankets", "lamps", SERIES] },
    Routine { name: "garden", steps: &["spades", "planters", "watering cans", "benches", "trays"] },
    Routine { name: "bathroom", steps: &["towels", "mats", "mirrors", "planters"] },
    Routine { name: "workshop", steps: &["drills", "tool boxes", "workbenches", "lamps"] },
    Routine { name: "baking", steps: &["bowls", "baking tins", "aprons", "trays", "mugs"] },
    Routine { name: "bedroom", steps: &["pillows", "blankets", "mats", "mirrors", SERIES] },
    Routine { name: "cycling", steps: &["helmets", "bike lights", "locks", "backpacks"] },
    Routine { name: "painting", steps: &["easels", "paint sets", "notebooks", "picture frames", "aprons"] },
];

/// Who needs what afterwards, of the same brand where there is one: (device, what goes into it).
pub(super) const COMPLEMENTS: &[(&str, &str)] = &[
    ("printers", "ink cartridges"),
    ("coffee makers", "coffee filters"),
    ("drills", "drill bits"),
];

pub(super) const COLOURS: &[&str] = &[
    "walnut brown", "slate grey", "sea blue", "moss green", "brick red", "sand", "charcoal black",
    "ivory white", "mustard yellow", "plum",
];

pub(super) const BRANDS: &[&str] = &[
    "Harbor", "Alder", "Northway", "Fenwick", "Juniper", "Copperfield", "Lumen", "Tamarack", "Wren",
    "Kestrel", "Marlow", "Orchard", "Rowan", "Stonebridge", "Thistle", "Yarrow",
];

/// Writers, the brands of novels.
pub(super) const AUTHORS: &[&str] = &[
    "Ada Marsh", "Tom Hale", "Ines Corbin", "Jonah Reed", "Mara Voss", "Peter Lindqvist", "Ruth Okoye",
    "Samuel Brandt", "Clara Fenn", "Idris Cole",
];

/// The two halves of a series' name.
pub(super) const SERIES_FIRST: &[&str] = &[
    "The Salt", "The Winter", "A Distant", "The Silent", "The Glass", "The Last", "A Borrowed",
    "The Copper", "The Hidden", "The Northern",
];
/// See [`SERIES_FIRST`].
pub(super) const SERIES_SECOND: &[&str] = &[
    "Road", "Garden", "Harbour", "Orchard", "Witness", "River", "Lighthouse", "Letter", "Clock",
    "Island",
];
