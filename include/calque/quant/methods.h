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
#include "calque/quant/smoothquant.h"

namespace calque::quant {

// A method is a pair: a transform of the channels and a rounding of the values. Each transform and
// each rounding is one row, defined in its own file and listed in methods.cpp. Code reads the rows'
// fields wherever methods differ; names are only for files and messages.

// Properties of a matrix that are known before anything is measured.
struct PlannedRounding {
  const Grid& grid;
  bool calibrated = false;  // statistics of the inputs will be available
  bool weighed = false;     // otherwise, an importance matrix is available
};

struct Rounding {
  std::string_view name;     // in the job file: "gptq"
  std::string_view title;    // in a sentence: "GPTQ"
  std::string_view summary;  // one sentence for the key's documentation
  bool needs_text = false;   // does nothing useful without calibration text
  // Moves each column's error onto columns that are not yet rounded, using the Hessian's factor, if
  // takes_feedback(grid); otherwise rounds as kRtn does.
  bool feeds_back = false;
  // Rounds GGUF's older types as llama.cpp does, not by calque's scale rules.
  bool llama_cpp_types = false;
  Rounder (*make)(const RoundingOptions&) = nullptr;
  // Operations it may call on the device of the quantize stage.
  std::vector<Operation> (*operations)(const RoundingOptions&, const PlannedRounding&) = nullptr;
  // Cost of an N x K matrix, and bytes held besides the matrix and its site's Hessian and factor.
  RoundingCost (*cost)(const RoundingOptions&, const PlannedRounding&, Index N, Index K) = nullptr;
  std::uint64_t (*scratch_bytes)(const RoundingOptions&, const PlannedRounding&, Index N, Index K,
                                 std::uint64_t threads) = nullptr;
};

extern const Rounding kRtn;   // used if nothing is known of the inputs
extern const Rounding kGptq;  // the default

struct TransformOptions {
  AwqOptions awq;
  SmoothQuantOptions smoothquant;
};

// A transform's way to choose the channel scales of a fold (calque/quant/awq.h): one multiplier a
// column, after `snap` (may be null). `loss` is null, or what a transform that tries candidates
// measures them by. Statistics must not be empty.
using ChooseScales = std::vector<float> (*)(const std::vector<ChannelReader>& readers,
                                            const InputStats& stats,
                                            const TransformOptions& options, const ScaleSnap& snap,
                                            const ScaleLoss& loss, const Exec& exec);

struct Transform {
  std::string_view name;     // in the job file: "awq"
  std::string_view title;    // in a sentence: "AWQ channel scales"
  std::string_view summary;  // one sentence for the key's documentation
  bool needs_text = false;
  // Tries candidates and measures each one's loss (AwqOptions), which costs time.
  bool tries_candidates = false;
  // Makes inputs easier to round, from their peaks (InputStats::largest_K), and gains nothing
  // where they are not rounded.
  bool eases_rounded_inputs = false;
  // Scale rule of the rounding that follows, unless the job sets one.
  ScaleRule scale_rule = ScaleRule::kSearch;
  // Chooses the multipliers of the columns of the linears behind a fold; null: columns stay as they
  // are.
  ChooseScales choose_scales = nullptr;
  // Operations it calls on the device of the transform stage.
  std::span<const Operation> operations = {};

  bool rescales_channels() const { return choose_scales != nullptr; }
};

extern const Transform kNoTransform;  // the default
extern const Transform kAwq;
extern const Transform kSmoothQuant;

std::span<const Rounding* const> roundings();
std::span<const Transform* const> transforms();

// A usual pair under one name: a rounding alone, or a transform with the default rounding.
struct Method {
  std::string_view name;
  std::string_view summary;
  const Transform* transform;
  const Rounding* rounding;
};
std::vector<Method> methods();

// The pair's name in methods(): the transform's if it has one, else the rounding's.
std::string_view method_name(const Transform& transform, const Rounding& rounding);

// True if a grid's scales can be fixed before its codes are chosen, as error feedback requires: all
// grids of groups, and the GGUF block types that consist of scale codes and steps.
bool takes_feedback(const Grid& grid);

// True if statistics of the inputs change what is rounded onto the grid.
bool takes_statistics(const Grid& grid);

// Round to nearest. Grids with desc_act form groups in order of falling mean square of the inputs.
Rounder make_rtn(const RoundingOptions& options);

// GPTQ (arXiv 2210.17323; src/quant/README.md) with static activation order: columns are visited in
// order of falling Hessian diagonal, while groups stay consecutive. Group scales are chosen on the
// original weights beforehand and then fixed, so files need no g_idx. Grids with desc_act form
// their groups in visiting order instead. On GGUF block types with scale codes, the scales come
// from the format's own search, weighted by the mean square of the inputs; refinement then moves
// scale codes and steps too (refine_blocks.h), also without statistics, for the squared error.
// IQ1, IQ2 and IQ3, whose codes stand for vectors, go through round_vectors.h likewise, with
// statistics only. Other block types are rounded as by make_rtn. If the Hessian is not finite, or
// not usable even with damp_percent 1, the matrix is rounded by RTN and the report says so.
Rounder make_gptq(const RoundingOptions& options);

}  // namespace calque::quant
