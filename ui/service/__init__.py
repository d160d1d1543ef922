"""What every interface shares: one library, one queue, jobs, judgements. It neither prints nor draws."""
