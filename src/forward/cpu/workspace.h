#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "calque/core/matrix.h"
#include "forward/cpu/attention.h"

namespace calque::forward {

// What one thread computes between a block's inputs and outputs. Kept from one sequence to the
// next: memory that is freed goes back to the system, and comes as pages that have to be cleared.
template <typename T>
struct Workspace {
  Buffer<T> normed;
  Buffer<T> left;  // what the linears of a site leave
  Buffer<T> right;
  Buffer<T> third;
  Buffer<T> inner;
  AttentionBuffers<T> attention;
};

// Workspaces of the threads that are in a block at the same time.
template <typename T>
class WorkspacePool {
 public:
  class Lease {
   public:
    explicit Lease(WorkspacePool& pool) : pool_(pool), workspace_(pool.take()) {}
    ~Lease() { pool_.give(std::move(workspace_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Workspace<T>* operator->() const { return workspace_.get(); }
    Workspace<T>& operator*() const { return *workspace_; }

   private:
    WorkspacePool& pool_;
    std::unique_ptr<Workspace<T>> workspace_;
  };

  // Frees those that nobody holds.
  void clear() {
    const std::lock_guard lock(mutex_);
    free_.clear();
  }

 private:
  std::unique_ptr<Workspace<T>> take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Workspace<T>>();
    std::unique_ptr<Workspace<T>> workspace = std::move(free_.back());
    free_.pop_back();
    return workspace;
  }
  void give(std::unique_ptr<Workspace<T>> workspace) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(workspace));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace<T>>> free_;
};

}  // namespace calque::forward
