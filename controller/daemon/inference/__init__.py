"""What both ways in share: pictures, requests, the model that is served, work and its bounds."""
