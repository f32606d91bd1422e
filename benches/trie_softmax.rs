//! trie_softmax
