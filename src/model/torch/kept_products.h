#pragma once

#include <cstddef>
#include <map>

namespace calque::model {

// Products of oneDNN that are ready to run: making one costs as much as a small product takes. A
// thread runs few shapes: the rows of a chunk, and of the ends of sequences.
template <typename Key, typename Product, typename... Facts>
Product& kept_product(std::map<Key, Product>& products, const Key& key, const Facts&... facts) {
  constexpr std::size_t kMost = 512;  // experts' rows come in every number
  if (products.size() >= kMost && !products.contains(key)) products.clear();
  return products.try_emplace(key, facts...).first->second;
}

}  // namespace calque::model
