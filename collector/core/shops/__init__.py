"""Orders straight from the shop: whose webhook it is, and what order it tells of. Pure, as all of the core."""
