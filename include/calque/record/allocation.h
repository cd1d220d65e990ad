#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "calque/core/matrix.h"
#include "calque/io/json.h"

namespace calque::record {

// A part of the model that takes one option, and the options it could have taken.
struct AllocatedPart {
  std::string name;  // "model.layers.3 attn_in", "blk.3.ffn_down.weight"
  Index block = -1;  // -1: embedding or head
  std::vector<std::uint64_t> bytes_O;
  std::vector<double> cost_O;  // nats, if measured; else squared error of the outputs
  std::size_t chosen = 0;
};

// The choice that met a target size (job/allocation.h).
struct Allocation {
  std::vector<std::string> options;  // ascending in bytes: "2", "3", "4"
  bool measured = true;              // costs are divergences, not the errors of single linears
  std::uint64_t budget_bytes = 0;    // for all tensors
  std::uint64_t fixed_bytes = 0;     // tensors that had no choice
  std::vector<AllocatedPart> parts;
  std::vector<std::string> rules;  // lines of a job file that make the same choice

  bool empty() const { return parts.empty(); }
  std::uint64_t bytes() const;  // with what was chosen
  double cost() const;          // the sum over all parts
  // The sum of costs if every part had this option.
  double cost_of(std::size_t option) const;
};

io::Json json_of(const Allocation& allocation);
Allocation allocation_from(const io::Json& json);

}  // namespace calque::record
