//! Vocabulary growth: the tokens of semantic IDs become tokens of a language model. Rows that its tables have
//! beyond its tokenizer (a padded vocabulary) are taken first; then the tables grow, in place.

use super::init::{self, Init, Table};
use super::{Error, Pretrained, Result};
use crate::text::{SidTokens, Spelling, Tokenizer};

/// Tokens to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// Codewords, by level.
    pub sizes: Vec<u32>,
    /// How they are written.
    pub spelling: Spelling,
    /// A table that has to grow grows to a multiple of this many rows, for products that like even sizes.
    pub multiple: usize,
}

impl Growth {
    /// Levels of `sizes` codes, written as MiniOneRec writes them; tables grow to multiples of 64 rows.
    pub fn new(sizes: &[u32]) -> Growth {
        Growth { sizes: sizes.to_vec(), spelling: Spelling::default(), multiple: 64 }
    }

    /// Rows that a table may grow by at most: what [`Pretrained::open`] makes room for.
    pub fn rows(&self) -> usize {
        let around = [&self.spelling.begin, &self.spelling.end];
        let codes: usize = self.sizes.iter().map(|&n| n as usize).sum();
        codes + around.iter().filter(|t| !t.is_empty()).count() + self.multiple.max(1) - 1
    }

    fn check(&self) -> Result<()> {
        const MOST: usize = 1 << 20;
        let total: u64 = self.sizes.iter().map(|&n| u64::from(n)).sum();
        if self.sizes.is_empty() || self.sizes.contains(&0) || total > MOST as u64 {
            let problem =
                format!("levels of {:?} codes; each needs one, and all at most {MOST}", self.sizes);
            return Err(Error::invalid("vocabulary growth", problem));
        }
        if self.multiple == 0 || self.multiple > 1 << 16 {
            let problem = format!("a multiple of {} rows; 1 to 65536 are possible", self.multiple);
            return Err(Error::invalid("vocabulary growth", problem));
        }
        self.spelling.check()
    }
}

impl Pretrained {
    /// Adds the tokens of `growth` to tokenizer, embedding and head, and says where they stand. New rows are
    /// drawn as `init` says, from numbers of `seed`; a head of its own is initialised from its own rows. May be
    /// called again for semantic IDs of another spelling.
    ///
    /// # Errors
    /// A token that exists, by name; sizes or a spelling that do not do; a model that is not in f32 in host
    /// memory; what `init` ends with. Nothing has changed then.
    pub fn grow(&mut self, growth: &Growth, init: Init<'_>, seed: u64) -> Result<SidTokens> {
        growth.check()?;
        let added = growth.spelling.tokens(&growth.sizes);
        if let Some((token, id)) = added.iter().find_map(|t| Some((t, self.tokenizer.token(t)?))) {
            let problem = format!(
                "exists, as token {id}: the vocabulary has grown already, or give the tokens another spelling"
            );
            return Err(Error::invalid(format!("added token {token:?}"), problem));
        }
        let config = &self.model.config;
        let (have, width) = (config.vocab_size, config.hidden_size);
        let first = self.tokenizer.len();
        let used = first as usize + added.len();
        let rows = if used <= have { have } else { used.next_multiple_of(growth.multiple) };
        let mut grown = config.clone();
        grown.vocab_size = rows;
        grown.check()?;
        let tokens = SidTokens::behind(
            first,
            &growth.sizes,
            growth.spelling.clone(),
            config.bos_token_id,
            config.eos_token_id,
        );

        let mut files = self.files.clone();
        files.add_tokens(first, &added)?;
        let tokenizer = Tokenizer::parse(self.tokenizer.path(), files.tokenizer())?;
        check_whole(&tokenizer, &added, first)?;

        let texts = init.tokenize(&self.tokenizer)?;
        let weights = &mut self.model.weights;
        // Free rows that are not taken stay; what pads a table that grows is new.
        let total = if rows > have { rows - first as usize } else { added.len() };
        let new =
            init::New { sizes: &growth.sizes, added: added.len(), total, texts: &texts, seed };
        let tables = std::iter::once(&weights.embedding).chain(&weights.head);
        let made = tables
            .enumerate()
            .map(|(i, table)| {
                let table = Table { values: table.f32()?, width, live: first as usize };
                init.rows(&table, &new, i as u64)
            })
            .collect::<Result<Vec<_>>>()?;
        let tables = std::iter::once(&mut weights.embedding).chain(weights.head.as_mut());
        for (table, new) in tables.zip(made) {
            let free = (have - first as usize) * width;
            let in_place = new.len().min(free);
            table.f32_mut()?[first as usize * width..][..in_place]
                .copy_from_slice(&new[..in_place]);
            table.append_rows(&new[in_place..])?;
        }
        self.model.config.vocab_size = rows;
        self.tokenizer = tokenizer;
        self.files = files;
        Ok(tokens)
    }
}

/// Every added token is one token, alone and beside others.
fn check_whole(tokenizer: &Tokenizer, added: &[String], first: u32) -> Result<()> {
    let wrong = |token: &str, problem: String| {
        Err(Error::invalid(format!("added token {token:?}"), problem))
    };
    for (id, token) in (first..).zip(added) {
        if tokenizer.token(token) != Some(id) {
            let problem = format!("became {:?}, not token {id}", tokenizer.token(token));
            return wrong(token, problem);
        }
    }
    for (id, some) in (first..).step_by(64).zip(added.chunks(64)) {
        let found = tokenizer.encode(&some.concat(), false)?;
        if !found.iter().copied().eq(id..id + some.len() as u32) {
            let problem = "is split or joined by the tokenizer; give the tokens another spelling";
            return wrong(&some[0], problem.into());
        }
    }
    Ok(())
}
