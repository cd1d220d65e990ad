#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "calque/core/matrix.h"
#include "calque/io/gguf.h"

namespace calque::formats {

// Sizes that no model reaches, so that products of two of them stay far from overflow.
constexpr std::int64_t kMostGgufSize = std::int64_t{1} << 28;

[[noreturn]] void refuse_gguf(const io::GgufFile& file, const std::string& reason);

// The keys that begin with the architecture's name. Values out of bounds are Error(kInput) with
// file, key and value.
class GgufKeyReader {
 public:
  GgufKeyReader(const io::GgufFile& file, std::string_view arch)
      : file_(file), prefix_(std::string(arch) + ".") {}

  const io::GgufFile& file() const { return file_; }
  std::optional<Index> find_count(const std::string& key) const;  // 1 or more
  Index count(const std::string& key) const;
  Index count_or_zero(const std::string& key) const;  // 0 where absent, or 0
  // The shortest decimal that gives the stored fp32: 1e-05 rather than 9.99999974e-06.
  std::optional<double> find_real(const std::string& key) const;  // above 0
  std::optional<std::string> find_text(const std::string& key) const {
    return file_.string(prefix_ + key);
  }

 private:
  const io::GgufFile& file_;
  std::string prefix_;
};

}  // namespace calque::formats
