#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "calque/core/cost.h"
#include "calque/core/matrix.h"

// A transformer block as data: a list of halves, each norm -> mixer -> norm -> add. For mixers, and
// for how to add one, see src/mixers/README.md.
namespace calque::model {

// Rows or columns that stand in another order in GGUF: from `first` on there are `groups` groups of
// them, each of parts of these sizes. GGUF has the first parts of all groups, then the second ones.
struct PartsOrder {
  Index first = 0;
  Index groups = 1;
  std::vector<Index> parts;  // none: the same order

  // Place p of GGUF has row order[p] of `count`; empty: the same order.
  std::vector<Index> order(Index count) const;
};

// A tensor of the checkpoint under its Hugging Face name, with its GGUF name and layout.
struct TensorSpec {
  std::string name;          // "model.layers.3.input_layernorm.weight"
  std::vector<Index> shape;  // [out, in] or [n]
  std::string gguf_name;     // "blk.3.attn_norm.weight"
  // > 0: GGUF interleaves the rows of each of this many heads (src/formats/README.md, "Q and K
  // rows").
  Index gguf_permuted_heads = 0;
  bool gguf_plus_one = false;   // GGUF stores 1 + weight (Gemma's norms)
  bool gguf_minus_exp = false;  // GGUF stores -e^weight (decays)
  PartsOrder gguf_rows;
  PartsOrder gguf_columns;
  // > 0: this many rows, the last in GGUF's order, are a tensor of their own there.
  Index gguf_rest_rows = 0;
  std::string gguf_rest_name;
  // >= 0: index of this matrix in the stacked tensor `gguf_name` [gguf_slabs, out, in].
  Index gguf_expert = -1;
  Index gguf_slabs = 1;
  // Not empty: some files have no `gguf_name` but this tensor, whose slabs hold this matrix as
  // their first rows or, with `gguf_pair_second`, their last.
  std::string gguf_pair_name;
  bool gguf_pair_second = false;

  // The values and their order are the same in GGUF.
  bool same_in_gguf() const {
    return gguf_permuted_heads == 0 && !gguf_plus_one && !gguf_minus_exp &&
           gguf_rows.parts.empty() && gguf_columns.parts.empty() && gguf_rest_rows == 0;
  }
};

// A linear layer: weight_NK [out_features, in_features] and perhaps a bias [out_features].
struct LinearSpec {
  std::string name;  // module name, "model.layers.3.self_attn.q_proj"
  std::string role;  // last part of the name, "q_proj"
  TensorSpec weight;
  std::vector<TensorSpec> bias;  // none or one
  Index heads = 0;               // > 0: the rows belong to this many attention heads
  bool key_value = false;        // K or V projection: with more ranks than heads, ranks share heads
  bool rounded = true;           // false: left as it is unless a rule says otherwise

  Index out_features() const { return weight.shape[0]; }
  Index in_features() const { return weight.shape[1]; }
};

// A place in a block where one activation feeds one or more linears.
struct SiteSpec {
  std::string name;                 // "attn_in"; with `expert` unique in a block
  Index expert = -1;                // >= 0: only tokens routed to this expert arrive here
  Index channels = 0;               // width of the activation
  std::vector<LinearSpec> readers;  // may be empty
  // The activation is the output of the half's norm: cheap to recompute, so it is never stored.
  bool from_norm = false;
  // With tensor parallelism, true: each rank has some of the channels; false: all of them, and some
  // of the readers' outputs.
  bool split_channels = false;
  // Expected share of all tokens that arrive here.
  double share = 1.0;
  // Not empty: what arrives here are rows of that site of the same half, as they are.
  std::string rows_of;
  // Index in BlockSpec::folds of the fold that rescales the activation; -1: none. Sites fed by the
  // same activation (the experts' and the shared expert's) have the same fold.
  Index fold = -1;

  Index features() const { return channels; }
};

// A way to move channel scales without changing what the block computes (src/quant/README.md,
// "AWQ: channel scales"): channel k of an activation is divided by s_k where it is made (the
// absorber) and multiplied by s_k in column k of every linear that reads it (the consumers).
struct FoldSpec {
  enum class Absorber {
    kNorm,         // weight_k /= s_k
    kNormPlusOne,  // the norm multiplies by 1 + weight: weight_k = (1 + weight_k) / s_k - 1
    kRows,         // rows of a linear, and of its bias
  };
  std::string site;  // the site whose inputs are rescaled, the first if there are several
  Index expert = -1;
  Absorber kind = Absorber::kNorm;
  TensorSpec absorber;                // a norm's weight, or the preceding linear
  std::vector<TensorSpec> bias;       // kRows: none or one
  std::vector<TensorSpec> consumers;  // weights of all readers, including the router
  // Row (of a norm: element) first_row + k makes channel k, unless `shared_by` heads of `head_dim`
  // channels come from the same rows, and must share their scales: query heads that read the same
  // K/V head, or all heads that one norm is applied to.
  Index first_row = 0;
  Index head_dim = 1;
  Index shared_by = 1;

  // The absorber's row or element that makes channel k.
  Index source_of(Index k) const {
    return first_row + k / (head_dim * shared_by) * head_dim + k % head_dim;
  }
};

// Root mean square norm: x / sqrt(mean(x^2) + epsilon), then scaled as `kind` says.
struct NormSpec {
  enum class Kind {
    kWeight,
    kOnePlusWeight,
    kPlain
  };  // scaled by weight, by 1 + weight, not at all
  Kind kind = Kind::kWeight;
  double epsilon = 1e-6;
  TensorSpec weight;  // [channels]; kPlain: no name

  bool has_weight() const { return kind != Kind::kPlain; }
};

// fp32 rows, one per token, that a mixer leaves for mixers of later blocks (keys that a layer
// shares, an indexer's choice). They are part of the runner's hidden states, also in resumed runs.
struct KeptRows {
  std::string name;
  Index width = 0;
};

// Keys and values that a runtime caches per token: `heads` rows of `head_dim` elements for each.
struct CacheShape {
  Index heads = 0;
  Index head_dim = 0;
  Index window = 0;  // maximum number of cached positions; 0: all
};

// Number of visible keys, summed over all positions of a sequence. `window` 0: every earlier
// position and the own one.
constexpr double visible_keys(double length, double window) {
  if (window == 0 || window >= length) return length * (length + 1) / 2;
  return window * (window + 1) / 2 + (length - window) * window;
}

// Computes the change of a half's hidden states from the normed hidden states: attention, an MLP,
// experts. Subclasses hold shapes and settings. The arithmetic lives in the forward room (CpuMixer,
// TensorMixer) and is found by kind().
class Mixer {
 public:
  virtual ~Mixer() = default;
  virtual std::string_view kind() const = 0;  // name of its folder in src/mixers: "attention"

  // Tensors other than the linears of its sites: norms of heads, routers.
  virtual std::vector<TensorSpec> tensors() const { return {}; }
  // The matrices among tensors() that are never quantized: routers, gates.
  virtual std::vector<TensorSpec> unrounded() const { return {}; }
  // Rows left for later blocks.
  virtual std::vector<KeptRows> keeps() const { return {}; }
  // Keys and values that a runtime caches per token; nullopt: none.
  virtual std::optional<CacheShape> cache() const { return std::nullopt; }

  // Cost other than the linears of its sites.
  virtual Cost cost(double sequences, double length) const = 0;
  // Memory of the CPU's pass over one sequence, without the chunks of rows that go through its
  // linears: bytes for the whole sequence; chunk_channels() gives elements per row of such a chunk.
  // `staged`: cut at the sites; else in one piece. `compute_bytes` is the size of one element that
  // linears read and write.
  virtual std::uint64_t sequence_bytes(Index length, Index compute_bytes, bool staged) const = 0;
  virtual Index chunk_channels(bool staged) const = 0;
};

// hidden += post_norm(mixer(norm(hidden))); either norm may be missing.
struct HalfSpec {
  std::optional<NormSpec> norm;
  std::shared_ptr<const Mixer> mixer;
  std::optional<NormSpec> post_norm;
  // It stands beside the half before it: both start from the same hidden states, and what they
  // leave is summed before it is added.
  bool beside = false;
  // Norm of that sum, given by the last of several halves side by side.
  std::optional<NormSpec> sum_norm;
  // The half's sites are BlockSpec::sites[first_site, first_site + site_count).
  std::size_t first_site = 0;
  std::size_t site_count = 0;
};

struct BlockSpec {
  Index layer = 0;
  std::string name;  // "model.layers.3"
  std::vector<HalfSpec> halves;
  std::vector<SiteSpec> sites;  // sites of all halves, in execution order
  std::vector<FoldSpec> folds;
  std::optional<TensorSpec> scalar;  // [1]: what the halves leave is multiplied by it

  const SiteSpec& site(std::string_view site_name, Index expert = -1) const;
  bool has_site(std::string_view site_name) const;
  const FoldSpec* fold_of(const SiteSpec& site) const {  // null: none
    return site.fold < 0 ? nullptr : &folds[static_cast<std::size_t>(site.fold)];
  }
  // One after the last of the halves that stand side by side with `half`, which is the first.
  std::size_t end_of_group(std::size_t half) const;
  // Index of the half that the fold's site belongs to.
  std::size_t half_of(const FoldSpec& fold) const;
  std::span<const SiteSpec> sites_of(const HalfSpec& half) const {
    return std::span(sites).subspan(half.first_site, half.site_count);
  }
  std::vector<TensorSpec> tensors() const;    // every tensor, biases included
  std::vector<TensorSpec> unrounded() const;  // unrounded tensors of all mixers
};

// A half with its own sites and folds, before it is added to a block. Fold indices in its sites
// refer to its own folds.
struct DetachedHalf {
  HalfSpec half;
  std::vector<SiteSpec> sites;
  std::vector<FoldSpec> folds;
};
void add_half(DetachedHalf half, BlockSpec& block);

}  // namespace calque::model
