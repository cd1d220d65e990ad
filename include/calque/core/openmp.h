#pragma once

// The OpenMP runtime that oneDNN uses (libgomp, which users of this header link); declared here
// because its header comes with g++ only.
extern "C" {
int omp_get_max_threads(void);
void omp_set_num_threads(int);
}

namespace calque {

// oneDNN starts an OpenMP team of its own inside every call unless the calling thread asks for one
// thread. The thread's setting comes back afterwards: a LibTorch in the process uses the same
// OpenMP.
class OneOpenMpThread {
 public:
  OneOpenMpThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneOpenMpThread() { omp_set_num_threads(before_); }
  OneOpenMpThread(const OneOpenMpThread&) = delete;
  OneOpenMpThread& operator=(const OneOpenMpThread&) = delete;

 private:
  int before_;
};

}  // namespace calque
