#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace calque::forward {

// A T of the calling thread's own, which a later thread takes over: threads live for one loop over
// sequences, and what they have prepared is wanted again in the next.
template <typename T>
T& inherited() {
  struct Pool {
    std::mutex mutex;
    std::vector<std::unique_ptr<T>> left;
  };
  static Pool& pool = *new Pool;  // not destroyed: threads may end after the program's statics
  struct Owner {
    std::unique_ptr<T> value;
    Owner() {
      const std::lock_guard lock(pool.mutex);
      if (pool.left.empty()) return;
      value = std::move(pool.left.back());
      pool.left.pop_back();
    }
    ~Owner() {
      const std::lock_guard lock(pool.mutex);
      pool.left.push_back(std::move(value));
    }
  };
  thread_local Owner owner;
  if (!owner.value) owner.value = std::make_unique<T>();
  return *owner.value;
}

// The product of oneDNN for `shape`, ready to run: making one costs as much as a small product
// takes. A thread runs few shapes: the rows of a chunk, and of the ends of sequences.
template <typename Product, typename Shape>
Product& kept_product(const Shape& shape) {
  constexpr std::size_t kMost = 512;  // experts' rows come in every number
  auto& products = inherited<std::map<Shape, Product>>();
  if (products.size() >= kMost && !products.contains(shape)) products.clear();
  return products.try_emplace(shape, shape).first->second;
}

}  // namespace calque::forward
