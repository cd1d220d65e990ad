#include "calque/io/sha256.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include "calque/core/error.h"
#include "calque/io/file.h"

namespace calque::io {
namespace {

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    check(context_ != nullptr && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
  }
  void add(std::span<const std::byte> bytes) {
    check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
  }
  std::string hex() {
    std::array<unsigned char, 32> digest{};
    check(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr) == 1);
    std::string text;
    for (const unsigned char byte : digest) text += fmt::format("{:02x}", byte);
    return text;
  }

 private:
  static void check(bool ok) {
    if (!ok) throw Error(ErrorKind::kInternal, "", "libcrypto refused to compute a SHA-256");
  }
  std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context_;
};

}  // namespace

std::string sha256_hex(std::span<const std::byte> bytes) {
  Sha256 hash;
  hash.add(bytes);
  return hash.hex();
}

std::string sha256_hex_of_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  Sha256 hash;
  // In parts, so that hashing a checkpoint does not keep all of it resident.
  constexpr std::size_t kChunk = std::size_t{16} << 20;
  for (std::size_t start = 0; start < file.bytes().size(); start += kChunk) {
    const auto left = file.bytes().subspan(start);
    const auto part = left.first(std::min(kChunk, left.size()));
    hash.add(part);
    file.drop(part);
  }
  return hash.hex();
}

}  // namespace calque::io
