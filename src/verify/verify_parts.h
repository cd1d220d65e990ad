#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "calque/verify/verify.h"
#include "calque/io/safetensors.h"

namespace calque::verify {

class Findings {
 public:
  void ok(std::string check, std::string message) {
    list_.push_back({Finding::Verdict::kOk, std::move(check), std::move(message)});
  }
  void warning(std::string check, std::string message) {
    list_.push_back({Finding::Verdict::kWarning, std::move(check), std::move(message)});
  }
  void fault(std::string check, std::string message) {
    list_.push_back({Finding::Verdict::kFault, std::move(check), std::move(message)});
  }
  std::size_t faults() const;
  std::vector<Finding> take() { return std::move(list_); }

 private:
  std::vector<Finding> list_;
};

// The tensors of a folder, from as many of its files as can be read: unlike a checkpoint, a damaged
// or missing shard does not hide the others.
struct LooseTensors {
  std::vector<std::unique_ptr<io::SafetensorsFile>> files;
  std::map<std::string, const io::TensorRef*, std::less<>> by_name;
  bool complete = true;  // every file could be read

  const io::TensorRef* find(const std::string& name) const {
    const auto found = by_name.find(name);
    return found == by_name.end() ? nullptr : found->second;
  }
};

// Error(kInput) if the folder has neither model.safetensors nor an index.
LooseTensors load_loosely(const std::filesystem::path& folder, Findings& findings);

// A packed module as its tensors alone tell: no settings are needed to see the width and the number
// of groups.
struct StoredModule {
  enum class Layout { kGptq, kAwq, kCompressedTensors };
  std::string name;
  Layout layout = Layout::kGptq;
  int bits = 0;
  Index N = 0;
  Index K = 0;
  Index groups = 0;
  const io::TensorRef* scales = nullptr;
  const io::TensorRef* zeros = nullptr;  // null: none stored
  const io::TensorRef* g_idx = nullptr;
};

// Finds the packed modules; faults of layout are reported, and modules with any left out.
// `awq`: "qweight" holds AWQ's packing, not GPTQ's.
std::vector<StoredModule> stored_modules(const LooseTensors& tensors, bool awq, Findings& findings);

// What quantization_config says about one module.
struct MeantSettings {
  int bits = 4;
  Index group_size = 128;
};

// quantization_config, evaluated as loaders do.
class MeantModules {
 public:
  virtual ~MeantModules() = default;
  // nullopt: to be left as it is.
  virtual std::optional<MeantSettings> of(const std::string& module) const = 0;
  bool awq = false;
  bool zeros_minus_one = false;  // GPTQ v1
};

// Null for a plain checkpoint. Faults: settings that no loader reads.
std::unique_ptr<MeantModules> meant_modules(const std::filesystem::path& folder,
                                            Findings& findings);

void check_config(const LooseTensors& tensors, const std::vector<StoredModule>& modules,
                  const MeantModules* meant, Findings& findings);
void check_values(const LooseTensors& tensors, const std::vector<StoredModule>& modules,
                  const MeantModules* meant, Findings& findings);

}  // namespace calque::verify
