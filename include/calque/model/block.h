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

// A transformer block as data. It is a list of halves, each norm -> mixer -> norm -> add; what a
// mixer is, and how to add one: src/mixers/README.md.
namespace calque::model {

// A tensor of the checkpoint under its Hugging Face name, with what GGUF calls it.
struct TensorSpec {
  std::string name;          // "model.layers.3.input_layernorm.weight"
  std::vector<Index> shape;  // [out, in] or [n]
  std::string gguf_name;     // "blk.3.attn_norm.weight"
  // > 0: GGUF stores the rows of each of this many heads interleaved (formats_gguf.md 5.4).
  Index gguf_permuted_heads = 0;
  bool gguf_plus_one = false;  // GGUF stores 1 + weight (Gemma's norms)
  // >= 0: slab of the stacked tensor `gguf_name` [gguf_slabs, out, in] that GGUF keeps it in.
  Index gguf_expert = -1;
  Index gguf_slabs = 1;
};

// A linear layer: weight_NK [out_features, in_features] and perhaps a bias [out_features].
struct LinearSpec {
  std::string name;  // the module, "model.layers.3.self_attn.q_proj"
  std::string role;  // its last part, "q_proj"
  TensorSpec weight;
  std::vector<TensorSpec> bias;  // none or one
  Index heads = 0;               // > 0: its rows are this many heads of attention
  bool key_value = false;        // of keys or values: with more ranks than heads, ranks share them

  Index out_features() const { return weight.shape[0]; }
  Index in_features() const { return weight.shape[1]; }
};

// A place in a block where one activation feeds one or more linears.
struct SiteSpec {
  std::string name;    // "attn_in": in messages and reports; with `expert` unique in a block
  Index expert = -1;   // >= 0: only the tokens that are routed to this expert come here
  Index channels = 0;  // width of the activation
  std::vector<LinearSpec> readers;  // may be none
  // The activation is what the half's norm leaves: cheap to make again, so it is never kept.
  bool from_norm = false;
  // With tensor parallelism each rank has some of the channels; else all of them, and some of the
  // readers' outputs.
  bool split_channels = false;
  // Of all tokens, the share that is expected here.
  double share = 1.0;
  // Index of the fold in BlockSpec::folds that rescales the activation; -1: none. Sites that one
  // activation feeds (the experts' and the shared expert's) have the same.
  Index fold = -1;

  Index features() const { return channels; }
};

// Channels whose scale can move without changing what the block computes (formats_gptq_awq.md,
// section 6): channel k of an activation is divided by s_k where it is made (the absorber) and
// multiplied again in column k of every linear that reads it (the consumers).
struct FoldSpec {
  enum class Absorber {
    kNorm,         // weight_k /= s_k
    kNormPlusOne,  // the norm multiplies by 1 + weight: weight_k = (1 + weight_k) / s_k - 1
    kRows,         // rows of a linear and of its bias
  };
  std::string site;  // the site whose inputs are rescaled, the first if there are several
  Index expert = -1;
  Absorber kind = Absorber::kNorm;
  TensorSpec absorber;                // a norm's weight, or the linear before
  std::vector<TensorSpec> bias;       // kRows: none or one
  std::vector<TensorSpec> consumers;  // weights; every reader of the activation, the router too
  // kRows: channel k is made by row first_row + k, unless `shared_by` query heads of `head_dim`
  // channels read one K/V head: then they are made by the same rows, and must share their scales.
  Index first_row = 0;
  Index head_dim = 1;
  Index shared_by = 1;

  // The absorber's row (norms: element) that makes channel k.
  Index source_of(Index k) const {
    return first_row + k / (head_dim * shared_by) * head_dim + k % head_dim;
  }
};

// Root mean square norm: x / sqrt(mean(x^2) + epsilon), then by kind.
struct NormSpec {
  enum class Kind { kWeight, kOnePlusWeight, kPlain };  // times weight, times 1 + weight, no more
  Kind kind = Kind::kWeight;
  double epsilon = 1e-6;
  TensorSpec weight;  // [channels]; kPlain: no name

  bool has_weight() const { return kind != Kind::kPlain; }
};

// Rows in fp32, one a token, which a mixer leaves for mixers of later blocks (keys that a layer
// shares, an indexer's choice). The runner's hidden states hold them, in resumed runs too.
struct KeptRows {
  std::string name;
  Index width = 0;
};

// Keys and values of one token that a runtime caches: each `heads` rows of `head_dim` elements.
struct CacheShape {
  Index heads = 0;
  Index head_dim = 0;
  Index window = 0;  // positions that are held at most; 0: all
};

// Keys that the positions of a sequence see, together. `window` 0: all before, and their own.
constexpr double visible_keys(double length, double window) {
  if (window == 0 || window >= length) return length * (length + 1) / 2;
  return window * (window + 1) / 2 + (length - window) * window;
}

// What turns the normed hidden states of sequences into what a half adds to them: attention, an
// MLP, experts. The subclasses hold shapes and settings; their arithmetic is the forward room's
// (CpuMixer, TensorMixer), found by kind().
class Mixer {
 public:
  virtual ~Mixer() = default;
  virtual std::string_view kind() const = 0;  // its folder in src/mixers: "attention"

  // Tensors beside the linears of its sites: norms of heads, routers.
  virtual std::vector<TensorSpec> tensors() const { return {}; }
  // Those of them that are matrices and never quantized: routers, gates.
  virtual std::vector<TensorSpec> unrounded() const { return {}; }
  // What it leaves for later blocks.
  virtual std::vector<KeptRows> keeps() const { return {}; }
  // What a runtime keeps of each token; nullopt: no keys and values.
  virtual std::optional<CacheShape> cache() const { return std::nullopt; }

  // What it takes beside the linears of its sites.
  virtual Cost cost(double sequences, double length) const = 0;
  // Memory of the CPU's pass over one sequence, beside the chunks of rows that go through its
  // linears: bytes for the whole sequence; and elements of such a chunk, one row. Cut at the sites
  // (`staged`) or in one piece. `compute_bytes`: of an element of what linears read and make.
  virtual std::uint64_t sequence_bytes(Index length, Index compute_bytes, bool staged) const = 0;
  virtual Index chunk_channels(bool staged) const = 0;
};

// hidden += post_norm(mixer(norm(hidden))), the norms where there are any.
struct HalfSpec {
  std::optional<NormSpec> norm;
  std::shared_ptr<const Mixer> mixer;
  std::optional<NormSpec> post_norm;
  // Its sites in BlockSpec::sites.
  std::size_t first_site = 0;
  std::size_t site_count = 0;
};

struct BlockSpec {
  Index layer = 0;
  std::string name;  // "model.layers.3"
  std::vector<HalfSpec> halves;
  std::vector<SiteSpec> sites;  // of all halves, in execution order
  std::vector<FoldSpec> folds;

  const SiteSpec& site(std::string_view site_name, Index expert = -1) const;
  bool has_site(std::string_view site_name) const;
  const FoldSpec* fold_of(const SiteSpec& site) const {  // null: none
    return site.fold < 0 ? nullptr : &folds[static_cast<std::size_t>(site.fold)];
  }
  // The half, by its index, that a fold's site belongs to.
  std::size_t half_of(const FoldSpec& fold) const;
  std::span<const SiteSpec> sites_of(const HalfSpec& half) const {
    return std::span(sites).subspan(half.first_site, half.site_count);
  }
  std::vector<TensorSpec> tensors() const;    // every tensor, biases included
  std::vector<TensorSpec> unrounded() const;  // of all mixers
};

// A half with sites and folds of its own, before it is part of a block: indices of folds in its
// sites count from its own first.
struct DetachedHalf {
  HalfSpec half;
  std::vector<SiteSpec> sites;
  std::vector<FoldSpec> folds;
};
void add_half(DetachedHalf half, BlockSpec& block);

}  // namespace calque::model
