#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "calque/forecast/memory_plan.h"
#include "calque/formats/plan.h"
#include "calque/job/job.h"
#include "calque/model/family.h"

namespace calque::forecast {

using Bytes = std::uint64_t;

inline Bytes bytes_of(Index count) { return static_cast<Bytes>(count); }

// The inputs of the sums over a job's stages.
struct JobShapes {
  JobShapes(const job::Job& job, const model::FamilySpec& family,
            const std::vector<formats::ExportPlan>& plans);

  const job::Job& job;
  const model::FamilySpec& family;
  const std::vector<formats::ExportPlan>& plans;
  bool runs = false;      // calibration text goes through the model
  bool upstream = false;  // the original model runs as well
  Bytes threads = 1;
  Bytes compute_bytes = 4;    // size of an element in the forward pass
  Bytes source_bytes = 2;     // size of an element in the checkpoint
  Bytes tokenizer_bytes = 0;  // in every stage
  // weights_of each block, in order: a block with 256 experts has 770 tensors and as many sites.
  std::vector<Bytes> block_weights;

  // The head is rounded under the statistics of its inputs.
  bool measures_head(const formats::ExportPlan& plan) const;
  Bytes calibration_tokens() const;
  Bytes hidden_bytes() const;  // one row of hidden states
  Bytes state_bytes() const;   // the same with rows that are kept for later blocks
};

// Memory in use at one moment. A stage counts with its largest peak.
class Peak {
 public:
  Peak& add(std::string what, Bytes bytes) {
    if (bytes > 0) memory_.items.push_back({std::move(what), bytes});
    memory_.bytes += bytes;
    return *this;
  }
  Peak& activations(std::vector<Bytes> arrays) {
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

// Keeps the largest of the peaks shown to it, activations included.
class LargestPeak {
 public:
  void keep(Peak peak) {
    if (!largest_ || peak.total() > largest_->total()) largest_ = std::move(peak);
  }
  std::optional<StageMemory> as(const char* stage) && {
    if (!largest_) return std::nullopt;
    return std::move(*largest_).as(stage);
  }

 private:
  std::optional<Peak> largest_;
};

Bytes elements(const model::TensorSpec& tensor);
Bytes weights_of(const model::BlockSpec& block);

// The program itself; with `runs`, including memory that a forward pass leaves in use.
Peak program(const JobShapes& shapes, bool runs);
// The peak before the first stage, while the tokenizer is read; 0: nothing that counts.
Bytes opening_bytes(const JobShapes& shapes);
// Adds a block's weights in fp32, whatever the forward pass computes in.
void add_weights(const model::BlockSpec& block, Bytes weights, Peak& to);
void add_prepared(const model::BlockSpec& block, Bytes compute_bytes, const model::SiteSpec* until,
                  Peak& to);

// For activations in files: the part that is in memory while it is worked on.
Bytes rows_being_read(const JobShapes& shapes);

// The measurement before a job with a target size: sensitivity.cpp in the room pipeline.
std::optional<StageMemory> allocate_memory(const JobShapes& shapes,
                                           const AllocationShape& allocation);
// The peak of each stage, including the program itself. nullopt if the job has no such stage.
std::optional<StageMemory> forward_memory(const JobShapes& shapes);
std::optional<StageMemory> statistics_memory(const JobShapes& shapes);
std::optional<StageMemory> quantize_memory(const JobShapes& shapes);
std::optional<StageMemory> write_memory(const JobShapes& shapes);
std::optional<StageMemory> evaluate_memory(const JobShapes& shapes);  // evaluation.cpp

}  // namespace calque::forecast
