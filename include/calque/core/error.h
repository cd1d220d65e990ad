#pragma once

#include <cstdint>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

namespace calque {

// The kinds of things that go wrong. `main` turns each kind into one documented exit code.
enum class ErrorKind {
  kInternal,      // exit 1: a broken promise inside calque
  kConfig,        // exit 2: usage, job file, a request that cannot be met
  kInput,         // exit 3: a model or data file is unreadable, damaged or unsupported
  kResource,      // exit 4: out of memory or disk
  kNumerical,     // exit 5: the arithmetic broke down
  kVerification,  // exit 6: the artifact exists but a threshold or a check failed
};

// The one exception type. The message says what is wrong, where (file:line:column, file + tensor,
// or module), the values met, and the smallest change that mends it. `code` is stable ("E131");
// it is empty where no page of the documentation explains more.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string code, const std::string& message)
      : std::runtime_error(message), kind_(kind), code_(std::move(code)) {}

  ErrorKind kind() const noexcept { return kind_; }
  const std::string& code() const noexcept { return code_; }

 private:
  ErrorKind kind_;
  std::string code_;
};

// Error(kResource, "E304"): memory that could not be had.
[[noreturn]] inline void throw_out_of_memory(std::uint64_t bytes_wanted) {
  throw Error(ErrorKind::kResource, "E304",
              "out of memory: " + std::to_string(bytes_wanted) + " bytes wanted");
}

// Runs `body`; an Error that leaves it gets "`where`: " in front of its message. The standard
// library's std::bad_alloc becomes one.
template <typename Body>
auto with_context(const std::string& where, Body&& body) -> decltype(body()) {
  try {
    return std::forward<Body>(body)();
  } catch (const Error& error) {
    throw Error(error.kind(), error.code(), where + ": " + error.what());
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::kResource, "E304", where + ": out of memory");
  }
}

}  // namespace calque
