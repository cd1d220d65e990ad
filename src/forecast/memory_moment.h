#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "calque/quant/methods.h"
#include "forecast/memory_stages.h"

namespace calque::forecast {

// What the sums of memory_stages.cpp and memory_quantize.cpp are made of.
using Bytes = std::uint64_t;
constexpr Bytes kMiB = Bytes{1} << 20;

// pipeline/rounding_by_rows.cpp, with the copies that a search makes.
constexpr Bytes kStrips = 16 * kMiB;

inline Bytes bytes_of(Index count) { return static_cast<Bytes>(count); }
Bytes elements(const model::TensorSpec& tensor);

// What is held at one time.
class Moment {
 public:
  Moment& add(std::string what, Bytes bytes) {
    if (bytes > 0) memory_.items.push_back({std::move(what), bytes});
    memory_.bytes += bytes;
    return *this;
  }
  Moment& activations(std::vector<Bytes> arrays) {
    memory_.activations = std::move(arrays);
    return *this;
  }
  Bytes total() const {
    Bytes total = memory_.bytes;
    for (const Bytes array : memory_.activations) total += array;
    return total;
  }
  StageMemory as(const char* stage) && {
    memory_.stage = stage;
    std::stable_sort(memory_.items.begin(), memory_.items.end(),
                     [](const auto& a, const auto& b) { return a.bytes > b.bytes; });
    return std::move(memory_);
  }

 private:
  StageMemory memory_;
};

// `worst` becomes the one that holds more, activations included.
void keep_larger(Moment candidate, std::optional<Moment>& worst);
std::optional<StageMemory> as_stage(std::optional<Moment> worst, const char* stage);

// The program itself, with LibTorch if anything is run.
Moment program(bool torch);
// That, a block's weights, and what the forward pass has prepared of them when `site` is reached
// (null: all).
Moment with_block(const JobShapes& shapes, const model::BlockSpec& block,
                  const model::SiteSpec* site);
Bytes weights_of(const model::BlockSpec& block);
Bytes prepared_of(const model::BlockSpec& block, Bytes compute_bytes, const model::SiteSpec* until);
// The largest tensors that are read at the same time, as the file holds them.
Bytes being_read(const JobShapes& shapes, const model::BlockSpec& block);
// Of one sequence while it goes through the wider half of a block (model/torch/block_math.cpp).
Bytes sequence_bytes(const JobShapes& shapes, Bytes length, Bytes compute_bytes, bool staged);

Bytes calibration_tokens(const JobShapes& shapes);
// Hidden states, of the original too; what it had at its sites; and what the block keeps between
// its stages: `stash_width` channels.
std::vector<Bytes> activations_of(const JobShapes& shapes, const model::BlockSpec& block,
                                  Bytes stash_width);
std::vector<Bytes> activations_at(const JobShapes& shapes, const model::BlockSpec& block,
                                  const model::SiteSpec& site);
Bytes widest_stash(const model::BlockSpec& block);
// Norms are shown in chunks of their own; other sites keep their inputs for all rows.
bool is_norm(const model::SiteSpec& site);

// One K x K matrix in fp32; and what one is called.
Bytes gram(const model::SiteSpec& site);
std::string square(const char* what, const model::BlockSpec& block, const model::SiteSpec& site);
// Statistics of the block's other sites are kept until it has run.
Bytes kept_grams(const JobShapes& shapes, const model::BlockSpec& block,
                 const model::SiteSpec& but);

}  // namespace calque::forecast
