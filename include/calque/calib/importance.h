#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "calque/formats/plan.h"
#include "calque/formats/writer.h"
#include "calque/io/imatrix.h"
#include "calque/io/state_file.h"
#include "calque/model/family.h"
#include "calque/quant/input_stats.h"

namespace calque::calib {

// Importance from a file, fitted to the model's matrices.
class Importance {
 public:
  // Error(kInput) where the file holds another size for a matrix, or nothing for any of them: it
  // was measured on another model. `name`: of the file, for messages.
  Importance(io::Imatrix imatrix, const model::FamilySpec& family, std::string name);

  // What the inputs of this matrix count; empty statistics for one that the file does not hold.
  const quant::InputStats& stats_of(const model::TensorSpec& weight) const;
  // One line about the matrices of the blocks that the file does not hold; "": it holds all.
  std::string warning() const;
  formats::ImatrixNote note() const;

 private:
  void take(const model::TensorSpec& weight, Index matrices, bool strict);

  io::Imatrix imatrix_;
  std::string name_;
  std::map<std::string, quant::InputStats> stats_;  // by Hugging Face name
  std::vector<std::string> missing_;                // GGUF names, once each
};

// From `path`, as Importance; none without one ("").
std::optional<Importance> load_importance(const std::filesystem::path& path,
                                          const model::FamilySpec& family);

// Error(kConfig, "E123") for a family whose tensors have no names in GGUF.
void check_has_gguf_names(const model::FamilySpec& family);

// Enters what `site` has seen under the GGUF name of each of its readers; no sums and no
// tokens: an expert that nothing was sent to.
void add_to_imatrix(const model::SiteSpec& site, std::span<const double> sums_K, Index tokens,
                    io::Imatrix& imatrix);

// GGUF names of the matrices in blocks: entries of an importance matrix of this model.
std::size_t matrix_names(const model::FamilySpec& family);

// Keeps what a calibrated pass measures.
class ImatrixRecorder {
 public:
  // Of one site, once.
  void add(const model::BlockSpec& block, const model::SiteSpec& site,
           const quant::InputStats& stats);
  bool written() const { return written_; }
  // To `path`; `datasets`: names of the texts, `chunks` of `chunk_size` tokens.
  void write(const std::filesystem::path& path, std::vector<std::string> datasets, Index chunks,
             Index chunk_size);
  // An earlier process has written the file.
  void mark_written() { written_ = true; }
  void save(const io::ByteSink& sink) const;
  void load(const io::ByteSource& source);

 private:
  io::Imatrix imatrix_;
  bool written_ = false;
};

}  // namespace calque::calib
