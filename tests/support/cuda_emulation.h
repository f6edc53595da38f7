// The few names of CUDA that kernels/ uses, so that g++ can build and run it: a launch is a loop over the grid.
#pragma once

#define __global__
#define __launch_bounds__(threads)

struct Dimensions {
    unsigned x, y;
};
static thread_local Dimensions threadIdx, blockIdx, blockDim, gridDim;

template <typename Body>
void launch(unsigned blocks, unsigned images, unsigned threads, Body body) {
    gridDim = {blocks, images};
    blockDim = {threads, 1};
    for (blockIdx.y = 0; blockIdx.y < images; ++blockIdx.y)
        for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
            for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) body();
}
