#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "calque/kernels/operations.h"
#include "calque/quant/awq.h"
#include "calque/quant/rounder.h"
#include "calque/quant/rounding_cost.h"
#include "calque/quant/rounding_options.h"

namespace calque::quant {

// A method is a pair: how channels are transformed, and how values are rounded then. Each of either
// kind is one row, defined in its own file and listed in methods.cpp. Everything that differs
// between methods is asked of the rows; their names are for files and messages.

// A matrix before anything is measured.
struct PlannedRounding {
  const Grid& grid;
  bool calibrated = false;  // there will be statistics of the inputs
  bool weighed = false;     // else, there is an importance of the inputs
};

struct Rounding {
  std::string_view name;     // in the job file: "gptq"
  std::string_view title;    // in a sentence: "GPTQ"
  std::string_view summary;  // what it does, for the key's documentation
  bool needs_text = false;   // without calibration text there is nothing that it could do
  // Moves each column's error onto columns that are not rounded yet, by the Hessian's factor, where
  // takes_feedback(grid); rounds as kRtn does elsewhere.
  bool feeds_back = false;
  // GGUF's older types come out as llama.cpp rounds them, not by calque's own scale rules.
  bool llama_cpp_types = false;
  Rounder (*make)(const RoundingOptions&) = nullptr;
  // The operations that it may call on the device of the stage quantize.
  std::vector<Operation> (*operations)(const RoundingOptions&, const PlannedRounding&) = nullptr;
  // What an N x K matrix takes; and holds beside itself and its site's Hessian and factor.
  RoundingCost (*cost)(const RoundingOptions&, const PlannedRounding&, Index N, Index K) = nullptr;
  std::uint64_t (*scratch_bytes)(const RoundingOptions&, const PlannedRounding&, Index N, Index K,
                                 std::uint64_t threads) = nullptr;
};

extern const Rounding kRtn;   // what rounds where nothing is known of the inputs
extern const Rounding kGptq;  // the default

struct Transform {
  std::string_view name;     // in the job file: "awq"
  std::string_view title;    // in a sentence: "AWQ channel scales"
  std::string_view summary;  // what it does, for the key's documentation
  bool needs_text = false;
  // How groups are scaled behind it unless the job says otherwise.
  ScaleRule scale_rule = ScaleRule::kSearch;
  // Chooses what the columns of the linears behind a fold are multiplied by; null: leaves all as
  // they are.
  ChooseScales choose_scales = nullptr;
  // The operations that it calls on the device of the stage transform.
  std::span<const Operation> operations = {};

  bool rescales_channels() const { return choose_scales != nullptr; }
};

extern const Transform kNoTransform;  // the default
extern const Transform kAwq;

std::span<const Rounding* const> roundings();
std::span<const Transform* const> transforms();

// A usual pair under one name: a rounding alone, or a transform before the default rounding.
struct Method {
  std::string_view name;
  std::string_view summary;
  const Transform* transform;
  const Rounding* rounding;
};
std::vector<Method> methods();

// The name of a pair among methods(): the transform's if there is one, else the rounding's.
std::string_view method_name(const Transform& transform, const Rounding& rounding);

// Whether a grid's scales can be frozen before its codes are chosen, which error feedback needs:
// all grids of groups, and the GGUF block types that are made of scale codes and steps.
bool takes_feedback(const Grid& grid);

// Round to nearest. Grids with desc_act have groups by falling mean square of the inputs.
Rounder make_rtn(const RoundingOptions& options);

// GPTQ (arXiv 2210.17323) with static activation order: columns are visited by falling Hessian
// diagonal, while groups stay consecutive and their scales are chosen on the original weights
// beforehand and frozen, so files need no g_idx. Grids with desc_act have their groups formed in
// visiting order instead.
// On GGUF's block types with scale codes the scales are those of the format's own search, weighted
// with the mean square of the inputs, and refinement moves scale codes and steps too
// (refine_blocks.h), also without statistics, for the squared error. The other block types are
// rounded as make_rtn does.
// Where the Hessian is not usable even with damp_percent 1, or not finite, the matrix is rounded by
// RTN and the report says so.
Rounder make_gptq(const RoundingOptions& options);

}  // namespace calque::quant
