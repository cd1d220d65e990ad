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
  // Error(kInput) if the file holds another size for a matrix, or none of the matrices: it was
  // measured on another model. `name` is the file's name, for messages.
  Importance(io::Imatrix imatrix, const model::FamilySpec& family, std::string name);

  // Statistics of this matrix's inputs; empty for a matrix that the file does not hold.
  const quant::InputStats& stats_of(const model::TensorSpec& weight) const;
  // One line that lists the blocks' matrices missing from the file; "" if none is missing.
  std::string warning() const;
  formats::ImatrixNote note() const;

 private:
  void take(const model::TensorSpec& weight, Index matrices, bool strict);

  io::Imatrix imatrix_;
  std::string name_;
  std::map<std::string, quant::InputStats> stats_;  // by Hugging Face name
  std::vector<std::string> missing_;                // GGUF names, once each
};

// Reads `path` as an Importance; nullopt if `path` is empty.
std::optional<Importance> load_importance(const std::filesystem::path& path,
                                          const model::FamilySpec& family);

// Error(kConfig, "E123") for a family whose tensors have no GGUF names.
void check_has_gguf_names(const model::FamilySpec& family);

// Enters the sums of `site` under the GGUF name of each of its readers. No sums and no tokens stand
// for an expert that received no token.
void add_to_imatrix(const model::SiteSpec& site, std::span<const double> sums_K, Index tokens,
                    io::Imatrix& imatrix);

// The number of GGUF names of the blocks' matrices: the entries of a full importance matrix.
std::size_t matrix_names(const model::FamilySpec& family);

// Collects the squared inputs that a calibrated pass measures and writes them as an imatrix file.
class ImatrixRecorder {
 public:
  // Adds the statistics of one site. Call once for each site.
  void add(const model::BlockSpec& block, const model::SiteSpec& site,
           const quant::InputStats& stats);
  bool written() const { return written_; }
  // Writes to `path`. `datasets` are the names of the texts, cut into `chunks` of `chunk_size`
  // tokens.
  void write(const std::filesystem::path& path, std::vector<std::string> datasets, Index chunks,
             Index chunk_size);
  // Call when an earlier process has written the file.
  void mark_written() { written_ = true; }
  void save(const io::ByteSink& sink) const;
  void load(const io::ByteSource& source);

 private:
  io::Imatrix imatrix_;
  bool written_ = false;
};

}  // namespace calque::calib
