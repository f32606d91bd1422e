//! trie_softmax: parity
